//go:build linux

package oskeyring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// countingBackend counts how often it reads an item of the real keyring.
type countingBackend struct {
	goKeyring
	reads atomic.Int64
}

func (b *countingBackend) Get(ctx context.Context, service, user, home string) (item, where, error) {
	b.reads.Add(1)
	return b.goKeyring.Get(ctx, service, user, home)
}

// short makes every token expire at once, so that each use of it is a rotation.
type short struct{ *endpoint.Endpoint }

func (s short) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := s.Endpoint.Refresh(ctx, r)
	if next != nil {
		next.Expiry = next.ObtainedAt
	}
	return next, err
}

// turns is longer than a process can wait for its turn among all the others.
const turns = 5 * time.Minute

func (j job) source() (*transport.Source, func() int64, error) {
	b := new(countingBackend)
	c := realConfig(j.Dir)
	c.backend, c.guard = b, &system
	if j.Ask {
		c.OnPrompt = func() { fmt.Println("prompt") }
	}
	cache, _, err := c.Open(context.Background())
	if err != nil {
		return nil, nil, err
	}
	s, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: short{&endpoint.Endpoint{TokenURL: j.URL, ClientID: "client", ClientSecret: "secret", AuthStyle: oauth2.AuthStyleInHeader}},
		Logger:    slog.New(slog.DiscardHandler),
		Timeout:   turns,
	})
	return s, b.reads.Load, err
}

func (j job) rotate(ctx context.Context) error {
	s, reads, err := j.source()
	if err != nil {
		return err
	}
	for range j.Count {
		_, err := s.Token(ctx)
		for begun := time.Now(); j.Count > 1 && errors.Is(err, transport.ErrUnavailable) && time.Since(begun) < turns; {
			time.Sleep(time.Second) // Others have the lock, and have had it for ten seconds.
			_, err = s.Token(ctx)
		}
		if err != nil {
			return err
		}
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	fmt.Println(reads())
	return nil
}

func TestProcessesShareALogin(t *testing.T) {
	useKeyring(t)
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, ClientID: "client", ClientSecret: "secret"})
	defer srv.Close()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	j := job{Do: "rotate", Dir: t.TempDir(), URL: srv.TokenURL(), Count: full(50)}
	s, _, err := j.source()
	if err != nil {
		t.Fatal(err)
	}
	login := srv.Login("ann")
	err = s.Login(t.Context(), &tokencache.Record{RefreshToken: tokencache.Secret(login.RefreshToken), AccessToken: tokencache.Secret(login.AccessToken),
		TokenType: "Bearer", ObtainedAt: time.Now(), Expiry: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	const processes = 20
	var outputs []*bufio.Scanner
	began := time.Now()
	for range processes {
		cmd, lines := start(t, j)
		stuck := time.AfterFunc(turns, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		outputs = append(outputs, lines)
	}
	var reads []string
	for _, lines := range outputs {
		for lines.Scan() {
			reads = append(reads, lines.Text())
		}
	}
	took := time.Since(began)
	if len(reads) != processes || slices.ContainsFunc(reads, func(n string) bool { return n != "1" }) {
		t.Errorf("reads of the keyring by each process, want 1: %q", reads)
	}
	want := processes * j.Count
	if c := srv.Counts(); c.Rotations != want || c.Reuses != 0 || c.InvalidGrants != 0 {
		t.Errorf("%d rotations, %d reuses, %d refused, want %d, 0 and 0", c.Rotations, c.Reuses, c.InvalidGrants, want)
	}
	cache, _ := mustOpen(t, realConfig(j.Dir))
	r, _, err := cache.Load(t.Context(), tokencache.Key{Issuer: j.URL, ClientID: "client"})
	if err != nil || r.Generation != uint64(1+want) {
		t.Errorf("the record is at generation %d, %v, want %d", r.Generation, err, 1+want)
	}
	t.Logf("%d rotations by %d processes in %v", want, processes, took)
}
