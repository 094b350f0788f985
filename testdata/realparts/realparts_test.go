package realparts_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// An outcome records what Require asks of a test, and ends it as a test would end.
type outcome struct {
	testing.TB
	got string
}

func (o *outcome) Helper()                           {}
func (o *outcome) Skipf(format string, args ...any)  { o.end("skip: "+format, args) }
func (o *outcome) Fatalf(format string, args ...any) { o.end("fail: "+format, args) }

func (o *outcome) end(format string, args []any) {
	o.got = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestRequire(t *testing.T) {
	missing := errors.New("not installed")
	tests := []struct {
		env  string
		err  error
		want string
	}{
		{"", nil, ""},
		{"all", nil, ""},
		{"", missing, "skip: needs a part: not installed"},
		{"all", missing, "fail: a part is required by STAYAUTH_REQUIRE=all: not installed"},
	}
	for _, tt := range tests {
		t.Setenv("STAYAUTH_REQUIRE", tt.env)
		var o outcome
		var test sync.WaitGroup
		test.Go(func() { realparts.Require(&o, "a part", tt.err) })
		test.Wait()
		if o.got != tt.want {
			t.Errorf("STAYAUTH_REQUIRE=%q, %v: %q, want %q", tt.env, tt.err, o.got, tt.want)
		}
	}
}
