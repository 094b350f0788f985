package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// Start is the time from the start of a process to its first authorized request: with a
// key file, with the key in the OS keyring, with x/oauth2 and a plain file, and with the
// same after one item of the keyring was read.
type Start struct{ Stayauth, Keyring, OAuth2, OAuth2AndRead []time.Duration }

// programs are built by MeasureStart, in the directory of this module.
const programs = "github.com/stayauth/stayauth/transport/bench/start/"

// MeasureStart builds programs that make one request with a stored token, and runs them in
// turns. It must run in a directory of this module. It leaves two items in the keyring, so that
// should not be the user's: keyring is the environment that leads to it. If that is empty, the
// two programs that need a keyring are left out.
func MeasureStart(ctx context.Context, runs int, keyring []string) (*Start, error) {
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// Into a directory, so that each gets the file name of a program on this system.
	out, err := exec.CommandContext(ctx, "go", "build", "-o", dir, programs+"stayauth", programs+"keyring", programs+"oauth2").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	arrived := make(chan time.Time, 1)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+accessToken {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		arrived <- time.Now()
	}))
	defer api.Close()

	cache, err := onDisk(dir)
	if err != nil {
		return nil, err
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Logger: quiet,
		Refresher: &endpoint.Endpoint{TokenURL: api.URL + "/token", ClientID: "bench", AuthStyle: oauth2.AuthStyleInParams}})
	if err != nil {
		return nil, err
	}
	expiry := time.Now().Add(time.Hour)
	if err := source.Login(ctx, &tokencache.Record{AccessToken: accessToken, RefreshToken: "r", Expiry: expiry}); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&oauth2.Token{AccessToken: accessToken, RefreshToken: "r", Expiry: expiry})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "token.json"), text, 0o600); err != nil {
		return nil, err
	}

	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, args[0]), append([]string{dir, api.URL}, args[1:]...)...)
		cmd.Env = append(os.Environ(), keyring...)
		cmd.Stderr = os.Stderr
		return cmd
	}
	s := new(Start)
	contenders := []struct {
		times *[]time.Duration
		args  []string
	}{{&s.Stayauth, []string{"stayauth"}}, {&s.OAuth2, []string{"oauth2"}},
		{&s.Keyring, []string{"keyring"}}, {&s.OAuth2AndRead, []string{"oauth2", "keyring"}}}
	if len(keyring) == 0 {
		contenders = contenders[:2]
	} else if err := command("keyring", accessToken).Run(); err != nil {
		return nil, fmt.Errorf("storing a login: %w", err)
	}
	for range runs {
		// In a random order, because one that comes after another that asks the keyring finds it awake.
		for _, i := range rand.Perm(len(contenders)) {
			c := contenders[i]
			begun := time.Now()
			if err := command(c.args...).Run(); err != nil {
				return nil, fmt.Errorf("%s: %w", c.args, err)
			}
			*c.times = append(*c.times, (<-arrived).Sub(begun))
		}
	}
	return s, nil
}

// WriteTable writes the medians, as Markdown.
func (s *Start) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "| | stayauth | x/oauth2 | ratio |\n|---|---|---|---|\n")
	for _, row := range []struct {
		name string
		a, b []time.Duration
	}{{"key in a file; plain file", s.Stayauth, s.OAuth2}, {"key in the OS keyring; plain file, and one item read", s.Keyring, s.OAuth2AndRead}} {
		if len(row.a) > 0 {
			fmt.Fprintf(w, "| %s | %.1f ms | %.1f ms | %.2f |\n", row.name,
				milliseconds(Median(row.a)), milliseconds(Median(row.b)), Median(ratios(row.a, row.b)))
		}
	}
}
