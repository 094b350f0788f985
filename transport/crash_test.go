package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A crashPlan is what a child process of the crash tests needs to know.
type crashPlan struct {
	Dir, TokenURL, APIURL, APIOrigin string
	ClientID, ClientSecret           string
	Lead, Distance                   time.Duration
	NoLock                           bool
	UntilEOF                         bool // end in an orderly way when stdin ends
}

const crashPlanEnv = "STAYAUTH_TEST_CRASH_PLAN"

// unlocked takes the lock away from a store, to prove that the test notices.
type unlocked struct{ tokencache.Store }

func (unlocked) Lock(context.Context, string) (func() error, error) {
	return func() error { return nil }, nil
}

func (p crashPlan) source() (*Source, error) {
	dir, err := tokencache.OpenDir(filepath.Join(p.Dir, "tokens"))
	if err != nil {
		return nil, err
	}
	var store tokencache.Store = dir
	if p.NoLock {
		store = unlocked{dir}
	}
	cache, err := tokencache.New(store, tokencache.KeyFile(filepath.Join(p.Dir, "key")))
	if err != nil {
		return nil, err
	}
	return NewSource(SourceConfig{
		Cache:  cache,
		Lead:   p.Lead,
		Logger: slog.New(slog.DiscardHandler),
		Refresher: &Endpoint{TokenURL: p.TokenURL, ClientID: p.ClientID,
			ClientSecret: tokencache.Secret(p.ClientSecret), AuthStyle: oauth2.AuthStyleInHeader, Base: afar{p.Distance}},
	})
}

// afar is a provider that is far away, so that what a process sends before it is
// killed arrives before what the next one sends. In the other order a login is lost,
// whatever the client does: see TestWhatCannotBePrevented of internal/model.
type afar struct{ distance time.Duration }

func (a afar) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(a.distance)
	return http.DefaultTransport.RoundTrip(r)
}

// call makes one request to the API with a client of s.
func (p crashPlan) call(s *Source) error {
	rt, err := New(Config{Source: s, Origins: []string{p.APIOrigin}})
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt, Timeout: 20 * time.Second}).Get(p.APIURL)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// crashReady is what a crashChild prints that is to be killed, once it has started.
const crashReady = "ready\n"

// crashChild calls the API until it is killed, or told to end. What else it prints
// fails the test.
func crashChild(plan string) int {
	var p crashPlan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		fmt.Println(err)
		return 2
	}
	s, err := p.source()
	if err != nil {
		fmt.Println(err)
		return 2
	}
	end := make(chan struct{})
	if p.UntilEOF {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			close(end)
		}()
	} else {
		fmt.Print(crashReady)
	}
	for {
		if err := p.call(s); errors.Is(err, ErrLoginRequired) || err != nil && p.UntilEOF {
			fmt.Println(err)
			return 1
		}
		select {
		case <-end:
			if err := s.Close(context.Background()); err != nil {
				fmt.Println(err)
				return 1
			}
			return 0
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// crash runs four processes that share a login, kills them at random moments, and
// starts others in their place. expires_in is one second and a rotation takes almost
// half of that, so that many are killed between the provider's commit and the save.
func crash(t *testing.T, kills int, noLock bool) (c oauthtest.Counts, complaints string, alive error) {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.SecondToLastKills, AccessTTL: 1500 * time.Millisecond, Latency: 300 * time.Millisecond})
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	defer func() { noteSecrets(srv.Secrets()) }()
	p := crashPlan{Dir: t.TempDir(), TokenURL: srv.TokenURL(), APIURL: srv.APIURL(), APIOrigin: srv.APIOrigin(),
		ClientID: srv.ClientID(), ClientSecret: srv.ClientSecret(), Distance: 150 * time.Millisecond, NoLock: noLock}
	s, err := p.source()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(t.Context(), record(srv.Login("ann"))); err != nil {
		t.Fatal(err)
	}
	plan, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const processes = 4
	var wg sync.WaitGroup
	var outs [processes]bytes.Buffer
	for i := range processes {
		wg.Go(func() {
			for range kills / processes {
				cmd := exec.Command(exe)
				cmd.Env = append(os.Environ(), crashPlanEnv+"="+string(plan))
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Error(err)
					return
				}
				cmd.Stderr = cmd.Stdout
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				said := make([]byte, len(crashReady))
				n, _ := io.ReadFull(out, said)
				if string(said[:n]) == crashReady {
					time.Sleep(rand.N(700 * time.Millisecond))
				} else {
					outs[i].Write(said[:n])
				}
				cmd.Process.Kill()
				io.Copy(&outs[i], out)
				cmd.Wait()
				if outs[i].Len() > 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range outs {
		complaints += outs[i].String()
	}
	time.Sleep(1600 * time.Millisecond) // until the last access token has expired
	if s, err = p.source(); err == nil {
		alive = p.call(s)
	}
	return srv.Counts(), complaints, alive
}

func TestKilledProcessesLoseNoLogin(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 40
	}
	c, complaints, alive := crash(t, kills, false)
	t.Logf("%d kills: %d rotations, %d lost answers made good by the grace, %d reuses, %d families revoked",
		kills, c.Rotations, c.Replays, c.Reuses, c.FamiliesRevoked)
	if c.Reuses != 0 || c.FamiliesRevoked != 0 || complaints != "" || alive != nil {
		t.Errorf("%d reuses, %d families revoked; at the end: %v; the processes said: %s", c.Reuses, c.FamiliesRevoked, alive, complaints)
	}
	if c.Rotations < kills/20 {
		t.Errorf("only %d rotations: the test has tested nothing", c.Rotations)
	}
}

// The same without the lock ends badly: the test above can fail.
func TestKilledProcessesWithoutTheLock(t *testing.T) {
	c, complaints, alive := crash(t, 200, true)
	t.Logf("%d rotations, %d reuses, %d families revoked; at the end: %v", c.Rotations, c.Reuses, c.FamiliesRevoked, alive)
	if c.Reuses == 0 && complaints == "" && alive == nil {
		t.Error("without the lock nothing went wrong, so the test above proves nothing")
	}
}
