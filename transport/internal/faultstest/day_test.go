package faultstest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// perSecond counts events by the second.
type perSecond struct {
	mu    sync.Mutex
	count map[int64]int
}

func (p *perSecond) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = make(map[int64]int)
	}
	p.count[time.Now().Unix()]++
}

func (p *perSecond) result() (total, most int) {
	for _, n := range p.count {
		total += n
		most = max(most, n)
	}
	return total, most
}

// A day of a provider that is up for ten seconds of every minute, and of fifty clients
// that all logged in at the same moment: they neither come all at once nor more often
// than twice as often as they must.
func TestAFlappingProvider(t *testing.T) {
	t.Parallel()
	const clients, day, up, down, interval = 50, 24 * time.Hour, 10 * time.Second, 50 * time.Second, 25 * time.Second
	for _, shared := range []bool{false, true} {
		logins := clients
		if shared {
			logins = 1
		}
		t.Run(fmt.Sprintf("%d logins", logins), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour, Latency: 200 * time.Millisecond})
				defer srv.Close()
				var attempts, arrived perSecond
				direct := srv.Direct()
				base := roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodHead { // a question
						return direct.RoundTrip(r)
					}
					attempts.add()
					resp, err := direct.RoundTrip(r)
					if err == nil {
						arrived.add()
					}
					return resp, err
				})
				ctx, cancel := context.WithTimeout(t.Context(), day)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					for ctx.Err() == nil {
						srv.Up()
						time.Sleep(up)
						srv.Down()
						time.Sleep(down)
					}
				})
				var mu sync.Mutex
				calls, failed, none := 0, 0, 0
				stores := make([]tokencache.Memory, logins)
				for i := range clients {
					cache, err := tokencache.New(&stores[i%logins], nil)
					if err != nil {
						t.Fatal(err)
					}
					s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Logger: slog.New(slog.DiscardHandler),
						Refresher: &endpoint.Endpoint{TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), Base: base,
							ClientSecret: tokencache.Secret(srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader}})
					if err != nil {
						t.Fatal(err)
					}
					if i < logins {
						tokens := srv.Login(fmt.Sprint("user ", i))
						err := s.Login(ctx, &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken),
							RefreshToken: tokencache.Secret(tokens.RefreshToken), ObtainedAt: time.Now(), Expiry: tokens.Expiry})
						if err != nil {
							t.Fatal(err)
						}
					}
					wg.Go(func() {
						defer s.Close(context.Background())
						if i%2 == 0 { // a service
							s.KeepFresh(ctx)
							return
						}
						var good time.Time
						time.Sleep(interval * time.Duration(i) / clients) // Callers keep no step.
						for ctx.Err() == nil {
							token, err := s.Token(context.Background())
							mu.Lock()
							calls++
							switch {
							case err == nil:
								good = token.Expiry.Add(-10 * time.Second)
							case time.Now().Before(good):
								failed++
							default:
								none++
							}
							mu.Unlock()
							time.Sleep(interval)
						}
					})
				}
				wg.Wait()
				// A token lives for an hour, and the first comes with the login.
				least := logins * int(day/time.Hour-1)
				total, most := arrived.result()
				tried, mostTried := attempts.result()
				c := srv.Counts()
				t.Logf("%d calls, %d failed although a token was good, %d when none was; token requests: %d (the least is %d), at most %d in a second; with those while it was down: %d, at most %d in a second; %d reuses",
					calls, failed, none, total, least, most, tried, mostTried, c.Reuses)
				if failed != 0 || c.Reuses != 0 {
					t.Errorf("%d calls failed, %d reuses", failed, c.Reuses)
				}
				if total > 2*least {
					t.Errorf("%d token requests, and %d would have been enough", total, least)
				}
				// Five minutes before the end of a token are time for five chances.
				if none > calls/1000 {
					t.Errorf("%d of %d calls failed for want of a token", none, calls)
				}
				if most > clients/4 || mostTried > clients/2 {
					t.Errorf("%d token requests in a second, with those while it was down %d", most, mostTried)
				}
			})
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
