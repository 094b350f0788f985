package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// Start is the time from the start of a process to its first authorized request.
type Start struct{ Stayauth, OAuth2 []time.Duration }

// programs are built by MeasureStart, in the directory of this module.
const programs = "github.com/stayauth/stayauth/transport/bench/start/"

// MeasureStart builds two programs that make one request with a stored token, and
// runs them in turns. It must run in a directory of this module.
func MeasureStart(ctx context.Context, runs int) (*Start, error) {
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"stayauth", "oauth2"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), programs+name).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
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
		Refresher: &transport.Endpoint{TokenURL: api.URL + "/token", ClientID: "bench", AuthStyle: oauth2.AuthStyleInParams}})
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

	s := new(Start)
	for range runs {
		for name, times := range map[string]*[]time.Duration{"stayauth": &s.Stayauth, "oauth2": &s.OAuth2} {
			cmd := exec.CommandContext(ctx, filepath.Join(dir, name), dir, api.URL)
			cmd.Stderr = os.Stderr
			begun := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			*times = append(*times, (<-arrived).Sub(begun))
		}
	}
	return s, nil
}

// WriteTable writes the medians, as Markdown.
func (s *Start) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "| stayauth, sealed file | x/oauth2, plain file | ratio |\n|---|---|---|\n| %.1f ms | %.1f ms | %.2f |\n",
		milliseconds(Median(s.Stayauth)), milliseconds(Median(s.OAuth2)), Median(ratios(s.Stayauth, s.OAuth2)))
}
