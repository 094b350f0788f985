package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A spoiltDisk is one that cannot be written.
type spoiltDisk struct {
	name, options string
	spoil, mend   func(path string) error
	logout, next  int // the exit statuses of a logout and of the command after it
}

func remount(how string) func(path string) error {
	return func(path string) error { return exec.Command("mount", "-o", "remount,"+how, path).Run() }
}

var spoiltDisks = []spoiltDisk{
	{"full", "size=256k", fill, removeFillers, 0, exitLogin},
	{"no inodes", "size=1m,nr_inodes=64", useUpInodes, removeFillers, 0, exitStorage}, // The trace of the logout takes the one that it frees.
	{"read-only", "size=256k", remount("ro"), remount("rw"), exitStorage, 0},
}

// While an access token is good it is served, whatever happens to the disk. Commands
// that read only read, and nothing is spent that cannot be stored.
func TestDiskThatCannotBeWritten(t *testing.T) {
	for _, c := range spoiltDisks {
		t.Run(c.name, func(t *testing.T) {
			disk := realparts.Mount(t, c.options)
			tm := newTerminalIn(t, disk)
			// As a login does that is in use.
			if err := expire(tm.dir); err != nil {
				t.Fatal(err)
			}
			tm.run(0, "get", tm.srv.APIURL())
			if err := c.spoil(disk); err != nil {
				t.Fatal(err)
			}
			before := tm.srv.Counts()
			tm.run(0, "get", tm.srv.APIURL())
			tm.run(0, "token")
			tm.run(0, "status")
			tm.run(0, "accounts")
			if c := tm.srv.Counts(); c.TokenRequests != before.TokenRequests {
				t.Errorf("a refresh was tried: %+v", c)
			}
			tm.run(c.logout, "logout", "-local")
			tm.run(c.next, "get", tm.srv.APIURL())
			if err := c.mend(disk); err != nil {
				t.Fatal(err)
			}
			if c.logout == 0 {
				tm.run(exitLogin, "get", tm.srv.APIURL())
			}
		})
	}
}

// When a refresh is due, its token is not spent: the successor could not be stored.
func TestSpoiltDiskSpendsNothing(t *testing.T) {
	for _, c := range spoiltDisks {
		t.Run(c.name, func(t *testing.T) {
			disk := realparts.Mount(t, c.options)
			tm := newTerminalIn(t, disk)
			if err := expire(tm.dir); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(disk); err != nil {
				t.Fatal(err)
			}
			tm.run(exitStorage, "token")
			tm.run(exitStorage, "get", tm.srv.APIURL())
			tm.run(0, "status")
			if c := tm.srv.Counts(); c.TokenRequests != 0 {
				t.Errorf("%+v", c)
			}
			if err := c.mend(disk); err != nil {
				t.Fatal(err)
			}
			tm.run(0, "token")
		})
	}
}

// Nor does it cost the login who fills the disk while the token is being spent.
func TestDiskThatIsFilledInMidRefresh(t *testing.T) {
	for _, c := range spoiltDisks {
		if c.name == "read-only" {
			continue // Nothing can be kept for that.
		}
		t.Run(c.name, func(t *testing.T) {
			disk := realparts.Mount(t, c.options)
			tm := newTerminalIn(t, disk)
			if err := expire(tm.dir); err != nil {
				t.Fatal(err)
			}
			restore := tm.duringTheRefresh("in mid refresh", func() {
				if err := c.spoil(disk); err != nil {
					t.Error(err)
				}
			})
			tm.run(0, "token")
			restore()
			tm.run(0, "get", tm.srv.APIURL())
			if err := c.mend(disk); err != nil {
				t.Fatal(err)
			}
			if err := expire(tm.dir); err != nil {
				t.Fatal(err)
			}
			tm.run(0, "token")
			if c := tm.srv.Counts(); c.Rotations != 2 || c.Reuses != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// With 14 file descriptors a good token is served, what reads reads, and a logout works.
func TestFourteenFileDescriptors(t *testing.T) {
	needsShell(t)
	tm := newTerminal(t)
	before := tm.srv.Counts()
	for _, args := range []string{`get "$1"`, "token", "status", "accounts", "logout -local"} {
		cmd := exec.Command("sh", "-c", "ulimit -n 14; exec stayauth "+args, "sh", tm.srv.APIURL())
		cmd.Env = tm.environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
	if c := tm.srv.Counts(); c.TokenRequests != before.TokenRequests {
		t.Errorf("a refresh was tried: %+v", c)
	}
	tm.run(exitLogin, "token")
}

// The connections of a refresh may take the last file descriptors. Either nothing is
// spent, or what was got is stored.
func TestFewFileDescriptors(t *testing.T) {
	needsShell(t)
	tm := newTerminal(t)
	refused, served := 0, 0
	for n := 8; n <= 20; n++ {
		if err := expire(tm.dir); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec stayauth get "$1"`, n), "sh", tm.srv.APIURL())
		cmd.Env = tm.environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			refused++
			t.Logf("%d: %s", n, out)
		} else {
			served++
		}
		if c := tm.srv.Counts(); c.Reuses != 0 || c.InvalidGrants != 0 {
			t.Fatalf("with %d descriptors: %+v", n, c)
		}
	}
	if err := expire(tm.dir); err != nil {
		t.Fatal(err)
	}
	tm.run(0, "token")
	if c := tm.srv.Counts(); c.Reuses != 0 || served == 0 || refused == 0 {
		t.Errorf("%d served, %d refused, %+v", served, refused, c)
	}
}

func fill(disk string) error {
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	return unless(err, syscall.ENOSPC)
}

func useUpInodes(disk string) (err error) {
	for n := 0; err == nil; n++ {
		var f *os.File
		if f, err = os.Create(filepath.Join(disk, fmt.Sprintf("filler%d", n))); err == nil {
			f.Close()
		}
	}
	return unless(err, syscall.ENOSPC)
}

func removeFillers(disk string) error {
	fillers, err := filepath.Glob(filepath.Join(disk, "filler*"))
	for _, filler := range fillers {
		err = errors.Join(err, os.Remove(filler))
	}
	return err
}

func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
