package realparts

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

//go:embed clock/ahead.c
var aheadSource string

// clockAhead returns the environment of a program, not a statically linked one, whose clock is
// to be ahead of this machine's.
func clockAhead(t testing.TB, ahead time.Duration) []string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	Require(t, "a C compiler (Debian: apt-get install gcc libc6-dev)", err)
	dir := t.TempDir()
	library, source := filepath.Join(dir, "ahead.so"), filepath.Join(dir, "ahead.c")
	if err := os.WriteFile(source, []byte(aheadSource), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return []string{"LD_PRELOAD=" + library, "CLOCK_AHEAD=" + strconv.Itoa(int(ahead/time.Second))}
}
