package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// TestMain lets the test binary be the second process of the demonstration, or the
// program itself.
func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		main()
	}
	if conf := os.Getenv(childTestVar); conf != "" {
		os.Exit(runChildTest(conf))
	}
	os.Exit(m.Run())
}

// The test runs faster than people can read. The steps wait for what they show, so
// a slow machine takes longer and still passes.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	d := newDemo(plainTimeline(&out), private(t))
	begun := time.Now()
	err := d.run(t.Context())
	t.Logf("took %v", time.Since(begun))
	t.Logf("output:\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	c := d.provider.Counts()
	if c.Rotations < 3 || c.Reuses != 0 || c.APIRefused == 0 || d.provider.refused.Load() == 0 {
		t.Errorf("the provider counted %+v", c)
	}
	for _, want := range []string{
		`(?m)^  failures +0 `,
		`(?m)^  reuses +0 `,
		`(?m)^  healed 401s +1 `,
		`(?m)^  rotations +([3-9]|\d\d+) `,
		`(?m)^  token requests .* 1 login, `,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("the output does not match %s", want)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("plain output holds control sequences")
	}
	wantNoSecret(t, out.String(), d.provider.Secrets())
	wantNoLogin(t, d.storage)
}

// private returns the options of a test, which has nothing to do with the logins and
// the keyring of whoever runs it.
func private(t *testing.T) options {
	return options{storage: storage{Key: "file", Dir: filepath.Join(t.TempDir(), "logins")}, every: time.Millisecond, pace: 0.2}
}

// wantNoLogin checks that the demonstration has removed its login.
func wantNoLogin(t *testing.T, s storage) {
	t.Helper()
	cache, _, err := openCache(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range cache.List(t.Context()) {
		t.Errorf("%v was left behind: %v", rec, err)
	}
}

func wantNoSecret(t *testing.T, out string, secrets []string) {
	t.Helper()
	if len(secrets) == 0 {
		t.Error("the provider has issued nothing")
	}
	for _, s := range secrets {
		if strings.Contains(out, s) {
			t.Error("the output holds a secret")
		}
	}
}

// What the summary is for: a failed call, a reuse and a second login are failures.
func TestSummaryTellsFailures(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, *demo)
		want  string
	}{
		"nothing":        {func(*testing.T, *demo) {}, ""},
		"a failed call":  {func(_ *testing.T, d *demo) { d.tell(otherProcess, report{Err: "it burns"}) }, "1 of 1 calls failed, the first with: it burns"},
		"a reuse":        {reuse, "spent refresh token"},
		"a second login": {func(t *testing.T, d *demo) { logInAgain(t, d) }, "2 logins"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDemo(plainTimeline(io.Discard), private(t))
			var err error
			if d.provider, err = startProvider(func() {}); err != nil {
				t.Fatal(err)
			}
			defer d.provider.Close()
			logInAgain(t, d)
			c.spoil(t, d)
			err = d.summary()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && exitStatus(t.Context(), io.Discard, err) != 1 {
				t.Errorf("exit status %d, want 1", exitStatus(t.Context(), io.Discard, err))
			}
		})
	}
}

func logInAgain(t *testing.T, d *demo) *tokencache.Record {
	t.Helper()
	p, err := provider.Discover(t.Context(), d.provider.URL())
	if err != nil {
		t.Fatal(err)
	}
	d.endpoint = p.Endpoint(d.provider.ClientID(), "")
	rec, err := logInAlone(t.Context(), p, d.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func reuse(t *testing.T, d *demo) {
	rec := logInAgain(t, d)
	if _, err := d.endpoint.Refresh(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if _, err := d.endpoint.Refresh(t.Context(), rec); err == nil {
		t.Fatal("a spent refresh token was accepted")
	}
}

func TestInterruptedDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := newDemo(plainTimeline(writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("generation 3")) {
			cancel()
		}
		return len(p), nil
	})), private(t))
	if status := exitStatus(ctx, io.Discard, d.run(ctx)); status != 130 {
		t.Errorf("exit status %d, want 130", status)
	}
	wantNoLogin(t, d.storage)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestFlags(t *testing.T) {
	known := []string{"-issuer", "https://login.example.com", "-client-id", "app"}
	for _, c := range []struct {
		name   string
		args   []string
		secret string // in the environment
		want   string // in the error
	}{
		{"nothing", nil, "", ""},
		{"nothing, with a secret in the environment", nil, "s3cret", ""},
		{"all", append(known, "-client-secret", "s3cret", "-scope", "a b", "-url", "https://api.example.com/me"), "", ""},
		{"loopback", []string{"-issuer", "http://127.0.0.1:80", "-client-id", "app", "-url", "http://[::1]:81/"}, "s3cret", ""},
		{"logout", append(known, "-logout"), "", ""},
		{"store", append(known, "-store", "keyring", "-logout"), "", ""},
		{"store of the demonstration", []string{"-store", "file"}, "", ""},
		{"unknown store", []string{"-store", "x"}, "", `-store must be keyring or file, not "x"`},
		{"store and no issuer", []string{"-store", "file", "-logout"}, "", "-issuer is missing"},
		{"unknown", []string{"-verbose"}, "", "-verbose"},
		{"not a flag", []string{"demo"}, "", `"demo" is not a flag`},
		{"no issuer", []string{"-url", "https://api.example.com"}, "", "-issuer is missing"},
		{"logout without issuer", []string{"-logout"}, "", "-issuer is missing"},
		{"no client", known[:2], "", "-client-id is missing"},
		{"no url", known, "", "-url is missing"},
		{"logout and url", append(known, "-logout", "-url", "https://api.example.com"), "", "remove -url"},
		{"two secrets", append(known, "-client-secret", "s3cret", "-url", "https://api.example.com"), "s3cret", "both set"},
		{"issuer without scheme", []string{"-issuer", "login.example.com", "-client-id", "app", "-url", "https://api.example.com"}, "", "-issuer must be a complete URL"},
		{"http", append(known, "-url", "http://api.example.com"), "", "-url must be https"},
		{"password", append(known, "-url", "https://me:s3cret@api.example.com"), "", "-url must not hold"},
	} {
		t.Run(c.name, func(t *testing.T) {
			getenv := func(string) string { return c.secret }
			_, err := parse(c.args, getenv, io.Discard)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var stderr bytes.Buffer
			status := exitStatus(t.Context(), &stderr, err)
			if err == nil || status != 2 || !strings.Contains(stderr.String(), c.want) || strings.Contains(stderr.String(), "s3cret") {
				t.Errorf("exit status %d, and %q; want 2, and %q", status, &stderr, c.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := parse([]string{"-h"}, os.Getenv, &out); err != flag.ErrHelp {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"Exit status", "-client-secret", "-store", secretVar, "130"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

func TestExitStatusOfLibraryErrors(t *testing.T) {
	for kind, want := range map[transport.Kind]int{
		transport.ErrMisconfigured: 2, transport.ErrLoginRequired: 1, transport.ErrUnavailable: 1,
	} {
		if got := exitStatus(t.Context(), io.Discard, &transport.Error{Kind: kind}); got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
	}
}
