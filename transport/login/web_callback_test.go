package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W19, W34: only a GET that the user waits for has an effect, and what has none spoils
// nothing.
func TestW19OnlyTheUsersGetCounts(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start())
	for _, tt := range []struct {
		method, header, value string
		status                int
		says                  string
	}{
		{"HEAD", "", "", 405, ""},
		{"POST", "", "", 405, "response_mode"},
		{"PUT", "", "", 405, "only GET"},
		{"GET", "Sec-Purpose", "prefetch", 503, "in advance"},
		{"GET", "Sec-Purpose", "prefetch;prerender", 503, "in advance"},
		{"GET", "Purpose", "prefetch", 503, "in advance"},
		{"GET", "X-Moz", "prefetch", 503, "in advance"},
		{"GET", "X-Purpose", "preview", 503, "in advance"},
	} {
		req := get(answer.String())
		req.Method = tt.method
		if tt.header != "" {
			req.Header.Set(tt.header, tt.value)
		}
		v := b.do(req, always)
		if v.status != tt.status || !strings.Contains(v.body, tt.says) || len(v.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s %s: HTTP %d, %s", tt.method, tt.value, v.status, v.body)
		}
	}
	if n := s.srv.Counts().TokenRequests; n != 0 {
		t.Errorf("%d token requests before the user came", n)
	}
	b.wantApp(b.open(answer.String()), "/")
	if n := s.srv.Counts().TokenRequests; n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// W20, W23: an answer is used in the browser that has begun, and for the user who has. In
// both directions: neither does a victim get the attacker's account, nor the attacker the
// victim's.
func TestW20LoginCSRF(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	victim, attacker := s.surfer("victim"), s.surfer("attacker")
	victims, attackers := victim.consent(victim.start()), attacker.consent(attacker.start())
	victim.wantPage(victim.open(attackers.String()), http.StatusBadRequest, "not started here")
	attacker.wantPage(attacker.open(victims.String()), http.StatusBadRequest, "not started here")
	// A cookie that has been carried over, with its answer, is bound to the user.
	u, _ := url.Parse(appURL)
	victim.jar.SetCookies(u, attacker.cookies())
	victim.wantPage(victim.open(attackers.String()), http.StatusForbidden, "Somebody else is signed in")
	s.surfer("").wantPage(s.surfer("").open(victims.String()), http.StatusBadRequest, "not started here")
	if n := s.srv.Counts().TokenRequests; n != 0 {
		t.Errorf("%d token requests", n)
	}
	victim.wantApp(victim.open(victims.String()), "/")
	attacker.wantApp(attacker.open(attackers.String()), "/")
}

// W23: who signs out, or in as somebody else, while the provider asks, gets no login of the
// first, who can still finish it.
func TestW23AnotherUserNow(t *testing.T) {
	for user, want := range map[string]struct {
		status int
		says   string
	}{"bob": {http.StatusForbidden, "Somebody else"}, "": {http.StatusUnauthorized, "not signed in"}} {
		s := newSite(t, oauthtest.Config{}, 1, nil)
		b := s.surfer("ann")
		answer := b.consent(b.start())
		b.signIn(user)
		b.wantPage(b.open(answer.String()), want.status, want.says)
		if n := s.srv.Counts().TokenRequests; n != 0 {
			t.Errorf("%d token requests", n)
		}
		b.signIn("ann")
		b.wantApp(b.open(answer.String()), "/")
		if s.record("bob", "") != nil || s.record("ann", "") == nil {
			t.Error("the wrong user is connected")
		}
	}
}

// W23: an application that cannot tell who is signed in uses nothing, and says whose fault
// that is.
func TestW23UserUnknown(t *testing.T) {
	down := false
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		user := c.User
		c.User = func(r *http.Request) (string, error) {
			if down {
				return "", errors.New("sessions are down")
			}
			return user(r)
		}
	})
	b := s.surfer("ann")
	answer := b.consent(b.start())
	down = true
	b.wantPage(b.open(answer.String()), http.StatusServiceUnavailable, "cannot tell who you are")
	down = false
	b.wantApp(b.open(answer.String()), "/")
}

// W21, W22: what does not fit the request is refused, without an exchange, and the genuine
// answer still counts (W18).
func TestW21Answers(t *testing.T) {
	for name, change := range map[string]func(q url.Values){
		"state twice":    func(q url.Values) { q.Add("state", q.Get("state")) },
		"code twice":     func(q url.Values) { q.Add("code", "other") },
		"iss twice":      func(q url.Values) { q.Add("iss", q.Get("iss")) },
		"error twice":    func(q url.Values) { q["error"] = []string{"a", "b"} },
		"another state":  func(q url.Values) { q.Set("state", "x") },
		"no state":       func(q url.Values) { q.Del("state") },
		"no code":        func(q url.Values) { q.Del("code") },
		"another issuer": func(q url.Values) { q.Set("iss", "https://evil.example") },
		"no issuer":      func(q url.Values) { q.Del("iss") },
		"an error of another": func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("iss", "https://evil.example")
		},
		"an error of who knows":     func(q url.Values) { q.Del("code"); q.Set("error", "access_denied"); q.Del("iss") },
		"an error, and no state":    func(q url.Values) { q.Del("state"); q.Set("error", "access_denied") },
		"an error, and a bad state": func(q url.Values) { q.Set("state", "x"); q.Set("error", "access_denied") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 2, nil)
			b := s.surfer("ann")
			genuine := b.consent(b.start())
			changed := *genuine
			q := changed.Query()
			change(q)
			changed.RawQuery = q.Encode()
			b.wantPage(b.open(changed.String()), http.StatusBadRequest, "was not")
			if n := s.srv.Counts().TokenRequests; n != 0 {
				t.Errorf("%d token requests", n)
			}
			b.wantApp(b.open(genuine.String()), "/")
		})
	}
}

// W22: mix-up. Of two providers that send no iss, each has a redirect URI of its own, and
// the answer of one that comes to that of the other is nothing to it.
func TestW22MixUp(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Provider.SendsIss = false })
	evil := newProvider(t, oauthtest.Config{})
	other := s.replica(evil, func(c *WebConfig) { c.Provider.SendsIss = false; c.RedirectURL = appURL + "/evil/callback" })
	s.replicas[0].mux.HandleFunc("/evil/connect", other.web.Connect)
	s.replicas[0].mux.HandleFunc("/evil/callback", other.web.Callback)
	b := s.surfer("ann")
	request := b.do(form("/evil/connect"), always).url
	// The malicious provider sends the browser on to the honest one, with its own request.
	honest := s.srv.URL() + "/authorize?" + request.RawQuery
	q := request.Query()
	q.Set("redirect_uri", appURL+"/callback") // which the honest one insists on
	honest = s.srv.URL() + "/authorize?" + q.Encode()
	v := b.do(get(honest), func(next *http.Request) bool { return next.URL.Host == "app.test" })
	b.wantPage(b.open(v.url.String()), http.StatusBadRequest, "not started here")
	if n, m := s.srv.Counts().TokenRequests, evil.Counts().TokenRequests; n != 0 || m != 0 {
		t.Errorf("%d and %d token requests", n, m)
	}
}

// W24: an answer that comes several times, at several replicas, is used once, and leads on
// each time.
func TestW24AnswerComesTwice(t *testing.T) {
	s := newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 30 * time.Millisecond}, 2, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start("return", "/accounts"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			req := get(answer.String())
			for _, c := range b.jar.Cookies(req.URL) {
				req.AddCookie(c)
			}
			resp := s.serveBy(i, req)
			if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || to != "/accounts" {
				t.Errorf("HTTP %d to %s", resp.StatusCode, to)
			}
		})
	}
	wg.Wait()
	if c := s.srv.Counts(); c.TokenRequests != 1 || c.Reuses != 0 {
		t.Errorf("%d token requests, %d reuses", c.TokenRequests, c.Reuses)
	}
	s.wantEvents(EventStarted, EventConnected)
	if rec := s.record("ann", ""); !s.srv.Valid(string(rec.RefreshToken)) {
		t.Error("the login that is stored is dead")
	}
}

// W24: also if the replica has died with the code sent. It is not sent again: that would
// end a login that may be alive.
func TestW24ReplicaDies(t *testing.T) {
	for name, tt := range map[string]struct {
		stored bool
		path   string
	}{"before it was stored": {false, "/callback"}, "after it was stored": {true, "/"}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, 2, nil)
			b := s.surfer("ann")
			answer := b.consent(b.start())
			dying := s.replicas[0].web
			id := attemptID(answer.Query().Get("state"))
			j, err := dying.openJournal(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			if err := j.write(t.Context(), id, nil); err != nil {
				t.Fatal(err)
			}
			if tt.stored {
				a, _ := dying.cookies.open(id, b.cookies()[0].Value)
				rec, err := dying.request(a, nil).exchange(t.Context(), answer.Query().Get("code"))
				if err != nil {
					t.Fatal(err)
				}
				rec.LoginID = id
				if err := dying.store(t.Context(), "ann", "", rec); err != nil {
					t.Fatal(err)
				}
			}
			j.close() // as the end of its process does
			before := s.srv.Counts().TokenRequests
			v := b.open(answer.String())
			if v.url.Path != tt.path {
				t.Errorf("HTTP %d at %s: %s", v.status, v.url, v.body)
			}
			if !tt.stored {
				b.wantPage(v, http.StatusServiceUnavailable, "Start again")
			}
			if c := s.srv.Counts(); c.TokenRequests != before || c.Reuses != 0 {
				t.Errorf("%d more token requests, %d reuses", c.TokenRequests-before, c.Reuses)
			}
			b.wantApp(b.connect(), "/")
		})
	}
}

// A failing store fails the Saves of entries from the time when it breaks.
type failingStore struct {
	*tokencache.Memory
	mu     sync.Mutex
	broken func(saves int) bool
	saves  int
}

func (f *failingStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	f.mu.Lock()
	f.saves++
	broken := f.broken != nil && f.broken(f.saves)
	f.mu.Unlock()
	if broken {
		return "", tokencache.ErrUnavailable
	}
	return f.Memory.Save(ctx, name, data, old)
}

// W25: what the exchange brought is stored whether or not the browser waits for it, and
// revoked if it cannot be.
func TestW25ExchangeOutlivesTheRequest(t *testing.T) {
	t.Run("tab closed", func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 50 * time.Millisecond} {
			s := newSite(t, oauthtest.Config{Latency: 40 * time.Millisecond}, 1, nil)
			b := s.surfer("ann")
			answer := b.consent(b.start())
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			req := get(answer.String()).WithContext(ctx)
			for _, c := range b.jar.Cookies(req.URL) {
				req.AddCookie(c)
			}
			s.serve(req)
			sent := s.srv.Counts().TokenRequests
			if rec := s.record("ann", ""); (rec != nil) != (sent == 1) || sent > 1 {
				t.Errorf("closed after %v: %d token requests, and the record is %+v", after, sent, rec)
			}
			b.wantApp(b.open(answer.String()), "/") // The user comes back.
			if n := s.srv.Counts().TokenRequests; n != 1 {
				t.Errorf("%d token requests in all", n)
			}
		}
	})
	for name, tt := range map[string]struct {
		broken    func(saves int) bool
		requests  int
		connected bool
	}{
		"nothing can be saved":         {func(int) bool { return true }, 0, false},
		"the login cannot be saved":    {func(saves int) bool { return saves > 1 }, 1, false},
		"the login cannot for a while": {func(saves int) bool { return saves == 2 }, 1, true},
		"its end cannot be noted":      {func(saves int) bool { return saves == 3 }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oauthtest.Config{}, 0, nil)
			store := &failingStore{Memory: new(tokencache.Memory)}
			s.store = store
			s.replicas = append(s.replicas, s.replica(s.srv, nil))
			b := s.surfer("ann")
			answer := b.consent(b.start())
			store.broken = tt.broken
			v := b.open(answer.String())
			if tt.connected {
				b.wantApp(v, "/")
			} else {
				b.wantPage(v, http.StatusServiceUnavailable, "cannot store it now")
			}
			tokens := s.srv.Current("user")
			if c := s.srv.Counts(); c.TokenRequests != tt.requests || s.srv.Valid(tokens.RefreshToken) != tt.connected {
				t.Errorf("%d token requests; is what they brought alive: %v", c.TokenRequests, s.srv.Valid(tokens.RefreshToken))
			}
			store.mu.Lock()
			store.broken = nil
			store.mu.Unlock()
			if tt.connected {
				b.wantApp(b.open(answer.String()), "/")
			}
		})
	}
}

// W26: an ID token that does not fit makes the login unusable, and its tokens are revoked.
func TestW26IDToken(t *testing.T) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		change func(claims map[string]any)
		fits   bool
		says   string
	}{
		"as it is":               {func(map[string]any) {}, true, ""},
		"another nonce":          {func(c map[string]any) { c["nonce"] = "x" }, false, "nonce"},
		"no nonce":               {func(c map[string]any) { delete(c, "nonce") }, false, "nonce"},
		"another audience":       {func(c map[string]any) { c["aud"] = "other" }, false, "another client"},
		"no audience":            {func(c map[string]any) { delete(c, "aud") }, false, "another client"},
		"one of several":         {func(c map[string]any) { c["aud"] = []string{"other", "client"} }, false, "another client"},
		"for us, by us":          {func(c map[string]any) { c["aud"] = []string{"other", "client"}; c["azp"] = "client" }, true, ""},
		"made for another party": {func(c map[string]any) { c["azp"] = "other" }, false, "another client"},
		"another issuer":         {func(c map[string]any) { c["iss"] = "https://evil.example" }, false, "another issuer"},
		"expired":                {func(c map[string]any) { c["exp"] = now - 301 - 60 }, false, "clock"},
		"a clock a little off":   {func(c map[string]any) { c["exp"] = now - 240; c["iat"] = now + 240 }, true, ""},
		"issued in the future":   {func(c map[string]any) { c["iat"] = now + 301 + 60 }, false, "clock"},
		"no end":                 {func(c map[string]any) { delete(c, "exp") }, false, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, nil)
			s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { a["id_token"] = editToken(a["id_token"].(string), tt.change) }))
			b := s.surfer("ann")
			v := b.connect()
			tokens := s.srv.Current("user")
			if tt.fits {
				b.wantApp(v, "/")
			} else if b.wantPage(v, http.StatusInternalServerError, "do not understand each other"); s.record("ann", "") != nil || !strings.Contains(s.lastError(), tt.says) || !strings.Contains(s.log.String(), "level=WARN msg=\"stayauth: refused\"") {
				t.Errorf("it was stored, or whoever runs this is not told why: %s", s.lastError())
			}
			if s.srv.Valid(tokens.RefreshToken) != tt.fits {
				t.Errorf("the tokens are alive: %v", !tt.fits)
			}
		})
	}
}

// W26, shared with the other ways to log in.
func TestIDTokenErrors(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Scope: "api openid"})
	w.cfg.Endpoint.Scopes = []string{"api", "openid"}
	w.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) {
		a["id_token"] = editToken(a["id_token"].(string), func(c map[string]any) { c["nonce"] = "x" })
	}))
	w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
	_, err := Loopback(t.Context(), w.cfg)
	w.wantError(err, transport.ErrMisconfigured, "another login", "nonce")
	if w.srv.Valid(w.srv.Current("user").RefreshToken) {
		t.Error("the tokens are alive")
	}
}

// Issuers that write their names in two ways are known.
func TestW26SameIssuer(t *testing.T) {
	const entra = "https://login.microsoftonline.com/"
	for _, tt := range []struct {
		iss, issuer, tenant string
		same                bool
	}{
		{"https://a.example", "https://a.example", "", true},
		{"https://a.example/", "https://a.example", "", false},
		{"accounts.google.com", "https://accounts.google.com", "", true},
		{entra + "9122/v2.0", entra + "common/v2.0", "9122", true},
		{entra + "9122/v2.0", entra + "contoso.onmicrosoft.com/v2.0", "9122", true},
		{entra + "9122/v2.0", entra + "common/v2.0", "9123", false},
		{entra + "9122/v2.0", entra + "common/v2.0", "", false},
		{"https://evil.example/9122/v2.0", entra + "common/v2.0", "9122", false},
		{"https://a.example/9122/x", "https://a.example/common/x", "9122", false},
	} {
		if same := sameIssuer(tt.iss, tt.issuer, tt.tenant); same != tt.same {
			t.Errorf("%+v: %v", tt, same)
		}
	}
}

// W27, W28, W29: what the login lacks, and what else has come with it, the application is
// told before it is stored.
func TestW27Result(t *testing.T) {
	var results []*Result
	var refuse error
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Accept = func(_ *http.Request, res *Result) error {
			results = append(results, res)
			if len(res.MissingScopes) > 0 {
				res.Return = "/missing"
			}
			return refuse
		}
	})
	b := s.surfer("ann")
	v := b.open(with(b.consent(b.start("label", "work")), "realmId", "1", "session_state", "x"))
	b.wantApp(v, "/")
	res := results[0]
	if res.User != "ann" || res.Label != "work" || res.Former != nil || res.Temporary || len(res.MissingScopes) > 0 || AccountOf(res.Record).Subject != "user" {
		t.Errorf("the result is %+v", res)
	}
	rec := s.record("ann", "work")
	if rec.Extra["callback.realmId"] != "1" || len(rec.Extra) != 1 {
		t.Errorf("kept were %d parameters", len(rec.Extra))
	}
	// They stay with the login when it is refreshed.
	if _, err := s.replicas[0].pool.Source(PoolAccount("ann", "work")).Token(t.Context()); err != nil {
		t.Fatal(err)
	}

	s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) {
		a["scope"] = "openid"
		delete(a, "refresh_token")
		a["instance_url"] = "https://i.example"
	}))
	answer := b.consent(b.start())
	b.wantApp(b.open(answer.String()), "/missing")
	b.wantApp(b.open(answer.String()), "/missing") // also when it comes again
	res = results[1]
	if !res.Temporary || !slices.Equal(res.MissingScopes, []string{"api"}) || res.Record.Extra["instance_url"] != "https://i.example" {
		t.Errorf("the result is %+v", res)
	}

	refuse = errors.New("this company is not a customer")
	before := s.record("ann", "").AccessToken
	b.wantPage(b.connect(), http.StatusForbidden, "does not accept it")
	if err := s.events[len(s.events)-1].Err; !errors.Is(err, RefusedByApp) || !errors.Is(err, refuse) {
		t.Errorf("the event says %v", err)
	}
	refuse = Refusal("no-customer")
	b.wantPage(b.connect(), http.StatusForbidden, "does not accept it")
	if tokens := s.srv.Current("user"); s.srv.Valid(tokens.RefreshToken) || s.record("ann", "").AccessToken != before {
		t.Error("the login was stored, or lives on")
	}
}

// W25: a panic of the application is its own, and leaves no tokens alive and no lock taken.
func TestW25AcceptPanics(t *testing.T) {
	panics := true
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Accept = func(*http.Request, *Result) error {
			if panics {
				panic("of the application")
			}
			return nil
		}
	})
	b := s.surfer("ann")
	answer := b.consent(b.start())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		b.open(answer.String())
	}()
	if s.record("ann", "") != nil || s.srv.Valid(s.srv.Current("user").RefreshToken) {
		t.Error("the tokens are alive")
	}
	panics = false
	b.wantPage(b.open(answer.String()), http.StatusServiceUnavailable, "interrupted")
	b.wantApp(b.connect(), "/")
}

// W29: the callback's parameters are bounded: they come from a browser.
func TestW29CallbackParametersAreBounded(t *testing.T) {
	q := url.Values{"code": {"c"}, "state": {"s"}, "long": {strings.Repeat("x", 2000)}}
	for i := range 40 {
		q.Set("p"+string(rune('a'+i)), "x")
	}
	if got := others(q); len(got) != maxParams || got.Has("long") || got.Has("code") {
		t.Errorf("kept are %v", got)
	}
}

// W30: no response of the callback may be kept, framed, or tell others where it was.
func TestW30Headers(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start())
	for _, target := range []string{with(answer, "state", "x"), with(answer, "iss", "x"), answer.String(), answer.String(), "/callback", "/callback?refused=late"} {
		v := b.do(get(target), always)
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"} {
			if got := v.header.Get(name); !strings.Contains(got, want) {
				t.Errorf("%s: %s is %q", target, name, got)
			}
		}
		if csp := v.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %s", target, csp)
		}
		if strings.Contains(target, "code=") && v.status != http.StatusSeeOther {
			t.Errorf("a page is shown at %s", target)
		}
		if strings.Contains(v.header.Get("Location"), answer.Query().Get("code")) {
			t.Error("the code is in the address of the next page")
		}
	}
}

// W31: the browser comes back to a page of this site, whatever it is asked for.
func TestW31ReturnAddress(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Home = "/home" })
	b := s.surfer("ann")
	for target, want := range map[string]string{
		"/accounts": "/accounts", "/accounts?tab=2&x=%20y#z": "/accounts?tab=2&x=%20y#z", "/ä": "/ä", "/a@b": "/a@b", "/?u=https://ok.example//": "/?u=https://ok.example//",
		"": "/home", "//evil.example": "/home", `/\evil.example`: "/home", `\\evil.example`: "/home", "/%5cevil.example": "/home", "/%2Fevil.example": "/home",
		"/%2f%2fevil.example": "/home", "https://evil.example": "/home", "http:evil.example": "/home", "javascript:alert(1)": "/home", "evil.example": "/home",
		"/\t/evil.example": "/home", "/\r\nSet-Cookie: a=b": "/home", "/%0d%0aSet-Cookie:%20a=b": "/home", "/..//evil.example": "/home", " //evil.example": "/home",
		"/\x00": "/home", "/%zz": "/home", "/\u2028x": "/\u2028x", "///evil.example": "/home", "/" + strings.Repeat("a", 300): "/home",
	} {
		v := b.do(get(b.consent(b.start("return", target)).String()), always)
		if got := v.header.Get("Location"); got != want {
			t.Errorf("%q leads to %q, want %q", target, got, want)
		}
	}
}

// W32: a reload, or going back, leads on: after a success to the application, after a
// failure to the page that says how to start again.
func TestW32ReloadAndBack(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 2, nil)
	b := s.surfer("ann")
	answer := b.consent(b.start("return", "/accounts"))
	for range 3 {
		b.wantApp(b.open(answer.String()), "/accounts")
	}
	denied := with(b.consent(b.start("return", "/accounts")), "code", "", "error", "access_denied")
	for range 3 {
		v := b.open(denied)
		b.wantPage(v, http.StatusBadRequest, "did not allow", `<a href="/accounts">Start again</a>`)
		b.wantPage(b.open(v.url.String()), http.StatusBadRequest, "did not allow") // reloaded
	}
	if n := s.srv.Counts().TokenRequests; n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// W33: what the provider, or somebody in its name, says is text.
func TestW33Descriptions(t *testing.T) {
	s := newSite(t, oauthtest.Config{}, 1, nil)
	b := s.surfer("ann")
	for _, evil := range []string{"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</p></main><iframe>", "javascript:alert(1)", "\x1b[31m\u202egpj.exe", strings.Repeat("long ", 1000), "{{.Title}}", "%3Cscript%3E", "\xff\xfe"} {
		v := b.open(with(b.consent(b.start()), "code", "", "error", "server_error", "error_description", evil, "error_uri", "javascript:alert(1)"))
		b.wantPage(v, http.StatusServiceUnavailable, "cannot be reached")
		for _, bad := range []string{"<script", "<img", "<iframe", "onerror=\"", "\x1b", "\u202e", "href=\"javascript"} {
			if strings.Contains(v.body, bad) {
				t.Errorf("the page for %q has %q in it", evil, bad)
			}
		}
		if len(v.body) > 4<<10 {
			t.Errorf("the page has %d bytes", len(v.body))
		}
	}
}

// The application may show failures in its own way, at an address without the code.
func TestFailedOfTheApplication(t *testing.T) {
	var got Failure
	var accept error
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Failed = func(w http.ResponseWriter, _ *http.Request, f Failure) { got = f; w.WriteHeader(f.Status) }
		c.Accept = func(*http.Request, *Result) error { return accept }
	})
	b := s.surfer("ann")
	v := b.open(with(b.consent(b.start("return", "/accounts")), "code", "", "error", "access_denied", "error_description", "no"))
	b.wantPage(v, http.StatusBadRequest)
	wantError(t, got.Err, transport.ErrLoginRequired, "access_denied", "no")
	if got.Return != "/accounts" {
		t.Errorf("start again at %s", got.Return)
	}
	accept = &transport.Error{Code: "no_customer", Description: "Ask your company to sign up."}
	b.wantPage(b.connect(), http.StatusForbidden)
	wantError(t, got.Err, transport.ErrLoginRequired, "no_customer", "sign up", "by-app")
	b.wantPage(b.open("/callback?refused=other-user"), http.StatusForbidden)
	if !errors.Is(got.Err, RefusedOtherUser) {
		t.Errorf("the failure is %v", got.Err)
	}
}

func (s *site) lastError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 || s.events[len(s.events)-1].Err == nil {
		return ""
	}
	return s.events[len(s.events)-1].Err.Error()
}
