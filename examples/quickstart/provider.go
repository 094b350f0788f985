package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// tokenLife is how long an access token of the demonstration is good. It bridges
// the outage.
const tokenLife = 30 * time.Second

// An embedded provider is the authorization server and API of the demonstration.
// It is as strict as they come: a refresh token works once, and whoever presents it
// again is taken for a thief, which ends the login for everybody.
type embedded struct {
	*oauthtest.Server

	// refreshIn, in nanoseconds, is when the provider asks its clients to refresh, by
	// the member refresh_in of its answers as Microsoft Entra does. 0: it does not ask.
	refreshIn atomic.Int64

	// While retryAfter, in nanoseconds, is not 0, the token endpoint answers 503 and
	// asks to be left alone for that long.
	retryAfter atomic.Int64
	refused    atomic.Int64
	onRefused  func()
}

// startProvider starts a provider on a free port of 127.0.0.1.
func startProvider(onRefused func()) (*embedded, error) {
	p := &embedded{onRefused: onRefused, Server: oauthtest.New(oauthtest.Config{
		Policy:    oauthtest.StrictFamily,
		ClientID:  "quickstart",
		AuthStyle: oauthtest.AuthNone, // A program on users' machines can keep no secret.
		AccessTTL: tokenLife,
		Latency:   30 * time.Millisecond,
	})}
	p.Fault("/token", 0, p.mood)
	return p, p.Start()
}

// mood is how the token endpoint behaves at the moment.
func (p *embedded) mood(endpoint http.Handler) http.Handler {
	if wait := time.Duration(p.retryAfter.Load()); wait > 0 {
		p.refused.Add(1)
		p.onRefused()
		return oauthtest.Status(http.StatusServiceUnavailable, wait)(endpoint)
	}
	return oauthtest.Edit(func(answer map[string]any) {
		if in := time.Duration(p.refreshIn.Load()); in > 0 {
			answer["refresh_in"] = in.Seconds()
		}
	})(endpoint)
}

func (p *embedded) askToRefreshIn(d time.Duration) { p.refreshIn.Store(int64(d)) }

func (p *embedded) breakDown(retryAfter time.Duration) { p.retryAfter.Store(int64(retryAfter)) }
func (p *embedded) comeBack()                          { p.retryAfter.Store(0) }

// revokeAccessToken does what an administrator or an incident would do.
func (p *embedded) revokeAccessToken() { p.RevokeAccess(p.Current(account).AccessToken) }
