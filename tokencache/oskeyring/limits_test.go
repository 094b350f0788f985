package oskeyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// windowsFake and macFake have the limits of these platforms as go-keyring meets
// them there.
func windowsFake() *fake {
	return &fake{
		sizeLimit: func(string, string) int { return windowsLimit },
		set: func(service, user, value string) error {
			if len(value) > 2560 {
				return gokeyring.ErrSetDataTooBig
			}
			return nil
		},
	}
}

func macFake() *fake {
	return &fake{
		sizeLimit: macLimit,
		set: func(service, user, value string) error {
			encoded := "go-keyring-base64:" + base64.StdEncoding.EncodeToString([]byte(value))
			command := fmt.Sprintf("add-generic-password -U -s %s -a %s -w %s\n", service, user, encoded)
			switch {
			case len(command) > 4096:
				return gokeyring.ErrSetDataTooBig
			case len(command) == 4096:
				return errors.New("at the limit, a Set that failed has returned nil: nothing may come this close")
			case strings.ContainsAny(service+user, " '\"$"):
				return errors.New("the shell would quote this, which the limit does not count")
			}
			return nil
		},
	}
}

func platforms() map[string]func() *fake {
	return map[string]func() *fake{"windows": windowsFake, "darwin": macFake}
}

// The default mode stores records of any size everywhere.
func TestOpenHasNoLimit(t *testing.T) {
	for name, platform := range platforms() {
		t.Run(name, func(t *testing.T) {
			f, dir := platform(), t.TempDir()
			cache, _ := mustOpen(t, f.config(dir))
			var v tokencache.Version
			for _, kib := range []int{1, 3, 10, 100} {
				r := testRecord(kib << 10)
				err := cache.Preflight(t.Context(), testKey, r)
				if err == nil {
					v, err = cache.Save(t.Context(), testKey, r, v)
				}
				if err != nil {
					t.Fatalf("%d KiB: %v", kib, err)
				}
				other, _ := mustOpen(t, f.config(dir))
				if got, _, err := other.Load(t.Context(), testKey); err != nil || got.RefreshToken != r.RefreshToken {
					t.Fatalf("%d KiB: %v", kib, err)
				}
			}
			for range 3 {
				if err := cache.Rekey(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestItemsRefusesWhatIsTooBig(t *testing.T) {
	for name, platform := range platforms() {
		t.Run(name, func(t *testing.T) {
			f := platform()
			s := mustItems(t, f.config(t.TempDir()))
			cache, err := tokencache.New(s, nil)
			if err != nil {
				t.Fatal(err)
			}
			small := testRecord(1 << 10)
			if err := cache.Preflight(t.Context(), testKey, small); err != nil {
				t.Fatal("a record of 1 KiB:", err)
			}
			v, err := cache.Save(t.Context(), testKey, small, "")
			if err != nil {
				t.Fatal(err)
			}
			sets := f.sets.Load()
			for _, kib := range []int{3, 10, 100} {
				wantProblem(t, cache.Preflight(t.Context(), testKey, testRecord(kib<<10)), TooBig)
				_, err := cache.Save(t.Context(), testKey, testRecord(kib<<10), v)
				wantProblem(t, err, TooBig)
				if !strings.Contains(err.Error(), "use Open") {
					t.Errorf("no remedy: %v", err)
				}
			}
			if f.sets.Load() != sets {
				t.Error("the keyring was asked to store it")
			}
			if got, _, err := cache.Load(t.Context(), testKey); err != nil || got.RefreshToken != small.RefreshToken {
				t.Errorf("the stored record has changed: %v", err)
			}
		})
	}
}

// What fits according to Preflight can be saved, to the byte, and one byte more is
// refused by Preflight.
func TestLimitIsExact(t *testing.T) {
	for name, platform := range platforms() {
		for _, entry := range []string{"a", strings.Repeat("\xff", 128)} {
			t.Run(fmt.Sprint(name, len(entry)), func(t *testing.T) {
				f := platform()
				s := mustItems(t, f.config(t.TempDir()))
				size := f.limit(s.keyring.service, itemUser(entry)) - itemHeader
				if size < 1500 {
					t.Errorf("only %d bytes", size)
				}
				if err := s.Preflight(t.Context(), entry, size); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Save(t.Context(), entry, []byte(strings.Repeat("x", size)), ""); err != nil {
					t.Fatal(err)
				}
				wantProblem(t, s.Preflight(t.Context(), entry, size+1), TooBig)
				wantProblem(t, s.Preflight(t.Context(), entry, math.MaxInt), TooBig)
			})
		}
	}
}

func TestProblems(t *testing.T) {
	exit := func(code int) error {
		sh, err := exec.LookPath("sh")
		realparts.Require(t, "a shell", err)
		return exec.Command(sh, "-c", fmt.Sprint("exit ", code)).Run()
	}
	for _, c := range []struct {
		got, want Problem
	}{
		{windowsProblem(syscall.Errno(5)), Denied},
		{windowsProblem(fmt.Errorf("wrapped: %w", syscall.Errno(1312))), NoSession},
		{windowsProblem(syscall.Errno(1783)), TooBig},
		{windowsProblem(syscall.Errno(87)), Failed},
		{windowsProblem(errors.New("other")), Failed},
		{securityProblem(errors.New("other")), Failed},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for code, want := range map[int]Problem{1: Failed, 36: NoSession, 37: NoCollection, 45: Failed, 50: NoCollection, 51: Denied, 128: Denied} {
		if got := securityProblem(exit(code)); got != want {
			t.Errorf("exit status %d of security: %q, want %q", code, got, want)
		}
	}
}

// A login for several APIs never fails to be stored because of its access tokens for the others,
// which a refresh can bring: where an item is small, the last one has a place beside the refresh
// token.
func TestItemsHoldALoginForSeveralAPIs(t *testing.T) {
	for name, platform := range platforms() {
		t.Run(name, func(t *testing.T) {
			f := platform()
			cache, err := tokencache.New(mustItems(t, f.config(t.TempDir())), nil)
			if err != nil {
				t.Fatal(err)
			}
			token := tokencache.Secret(strings.Repeat("x", 800))
			r := &tokencache.Record{LoginID: "login", RefreshToken: token, AccessToken: token}
			var v tokencache.Version
			for i, api := range []string{"", "mail", "files", "", "mail"} {
				r.Select(api)
				r.AccessToken, r.Generation = token, uint64(i)
				if err := cache.Preflight(t.Context(), testKey, r); err != nil {
					t.Fatal(err)
				}
				if v, err = cache.Save(t.Context(), testKey, r, v); err != nil {
					t.Fatal(err)
				}
				got, _, err := cache.Load(t.Context(), testKey)
				if err != nil {
					t.Fatal(err)
				}
				if got.Select(api); got.RefreshToken != token || got.AccessToken != token || got.Generation != uint64(i) {
					t.Errorf("save %d, of %q: the login or the token is lost", i, api)
				}
			}
		})
	}
}
