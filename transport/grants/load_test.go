package grants_test

import (
	"context"
	"crypto"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A keyService is a key that takes its time, and counts.
type keyService struct {
	crypto.Signer
	takes time.Duration
	hangs chan struct{} // until it is closed; nil: it does not

	made, now, most atomic.Int32 // signatures: in all, at the moment, the most at a time
}

func (k *keyService) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	n := k.now.Add(1)
	defer k.now.Add(-1)
	for most := k.most.Load(); n > most && !k.most.CompareAndSwap(most, n); most = k.most.Load() {
	}
	time.Sleep(k.takes)
	if k.hangs != nil {
		<-k.hangs
	}
	k.made.Add(1)
	return k.Signer.Sign(r, digest, opts)
}

func (w *world) slowly(takes time.Duration) *keyService {
	service := &keyService{Signer: w.key, takes: takes}
	w.key = service
	return service
}

// many starts a bubble in which many signatures are made at a time.
func many(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if fips140.Enforced() {
		realparts.Require(t, "entropy in a bubble", errors.New("FIPS mode takes it from a clock that ticks"))
	}
	synctest.Test(t, f)
}

// each calls f in a goroutine of its own for each of callers of each subject, all at once, and
// waits for them.
func each(subjects, callers int, f func(account string, caller int)) {
	var all sync.WaitGroup
	for i := range subjects {
		for c := range callers {
			all.Go(func() { f(fmt.Sprint("user ", i), c) })
		}
	}
	all.Wait()
}

// Ten thousand goroutines of two replicas act for a thousand subjects with one key: each subject
// has one token per period, and each attempt a statement of its own. Only who waits for a token
// waits for a signature (C79, C91).
func TestOneTokenPerSubject(t *testing.T) {
	const subjects, callers = 1000, 10
	many(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthNone)
		service := w.slowly(20 * time.Millisecond)
		pools := []*transport.Pool{}
		for range 2 {
			pools = append(pools, w.pool(t, grants.JWTBearer(w.endpoint(), grants.JWT{Key: w.signs})))
		}
		for _, tt := range []struct {
			name    string
			after   time.Duration
			waits   bool
			periods int
		}{
			{"no token yet", 0, true, 1},
			{"a fresh token", time.Minute, false, 1},
			{"a token that ends in minutes", 55 * time.Minute, false, 2},
			{"an expired token", 2 * time.Hour, true, 3},
		} {
			time.Sleep(tt.after)
			begun := time.Now()
			each(subjects, callers, func(account string, c int) {
				tok, err := pools[c%2].Source(account).Token(t.Context())
				if err != nil || tt.waits && w.srv.Current(account).AccessToken != string(tok.AccessToken) {
					t.Errorf("%s, %s: %v", tt.name, account, err)
				}
			})
			if waited := time.Since(begun); waited > 0 != tt.waits {
				t.Errorf("%s: the callers waited for %v", tt.name, waited)
			}
			time.Sleep(10 * time.Second) // until what goes on in the background is done
			made, want := int(service.made.Load()), subjects*tt.periods
			if c := w.srv.Counts(); made != want || c.TokenRequests != want || c.Assertions != want || c.RepeatedAssertions != 0 {
				t.Errorf("%s: %d signatures, want %d; the provider counted %+v", tt.name, made, want, c)
			}
		}
	})
}

// A key service, which limits how often it is asked, is not asked for a thousand signatures at
// once when a thousand tokens have expired together, and everybody is served all the same.
func TestSubjectsThatExpireTogether(t *testing.T) {
	for name, style := range map[string]oauthtest.AuthStyle{"JWTBearer": oauthtest.AuthNone, "PrivateKey": oauthtest.AuthPrivateKey} {
		t.Run(name, func(t *testing.T) {
			many(t, func(t *testing.T) {
				const subjects = 1000
				w := newWorld(t, style)
				service := w.slowly(50 * time.Millisecond)
				e := w.endpoint()
				r := grants.JWTBearer(e, grants.JWT{Key: w.signs})
				if style == oauthtest.AuthPrivateKey {
					e.ClientAuth = &clientauth.PrivateKey{Key: w.signs}
					r = grants.TokenExchange(e, grants.Exchange{Subject: func(_ context.Context, key tokencache.Key) (grants.Subject, error) {
						return grants.Subject{Token: tokencache.Secret(w.srv.Login(key.Account).AccessToken)}, nil
					}})
				}
				p := w.pool(t, r)
				for range 2 {
					begun := time.Now()
					each(subjects, 1, func(account string, _ int) {
						if _, err := p.Source(account).Token(t.Context()); err != nil {
							t.Errorf("%s, after %v: %v", account, time.Since(begun), err)
						}
					})
					t.Logf("%d subjects were served within %v, with %d signatures at a time", subjects, time.Since(begun), service.most.Load())
					time.Sleep(2 * time.Hour)
				}
				if most := service.most.Load(); most > 16 {
					t.Errorf("%d signatures at a time", most)
				}
				if n := w.srv.Counts(); service.made.Load() != 2*subjects || n.TokenRequests != 2*subjects {
					t.Errorf("%d signatures, %+v", service.made.Load(), n)
				}
			})
		})
	}
}

// A key service that hangs when a thousand tokens have expired holds a few goroutines, and no
// caller for long. When it is back, everybody is served.
func TestKeyServiceThatHangsUnderLoad(t *testing.T) {
	many(t, func(t *testing.T) {
		const subjects = 1000
		w := newWorld(t, oauthtest.AuthNone)
		service := w.slowly(50 * time.Millisecond)
		service.hangs = make(chan struct{})
		p := w.pool(t, grants.JWTBearer(w.endpoint(), grants.JWT{Key: w.signs}))
		begun := time.Now()
		each(subjects, 1, func(account string, _ int) {
			if _, err := p.Source(account).Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) || time.Since(begun) > 20*time.Second {
				t.Errorf("%s, after %v: %v", account, time.Since(begun), err)
			}
		})
		if now := service.now.Load(); now > 16 || w.srv.Counts().TokenRequests != 0 {
			t.Errorf("%d signatures hang, %+v", now, w.srv.Counts())
		}
		close(service.hangs)
		time.Sleep(time.Minute)
		each(subjects, 1, func(account string, _ int) {
			if _, err := p.Source(account).Token(t.Context()); err != nil {
				t.Errorf("%s: %v", account, err)
			}
		})
	})
}
