package oskeyring

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// Reading only reads: on a disk that cannot be written, no key can be made in a better
// place, and none is needed.
func TestABetterPlaceOnAReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
			realparts.Require(t, "the right to mount a file system", fmt.Errorf("%w: %s", err, out))
		}
	}
	mount("-t", "tmpfs", "-o", "mode=700", "tmpfs")
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })

	f := new(fake)
	f.locked.Store(true)
	cfg := f.config(dir).accepting([]KeyChoice{Keyring(), KeyFile("")})
	cache, _ := mustOpen(t, cfg)
	save(t, cache)
	f.locked.Store(false)
	mount("-o", "remount,ro")
	cache, info := mustOpen(t, cfg)
	if info.Key != "key file" || len(info.Skipped) != 1 {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)
	mount("-o", "remount,rw")
	cache, info = mustOpen(t, cfg)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
	wantLoad(t, cache)
}
