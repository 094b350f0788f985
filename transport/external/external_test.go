package external_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/external"
)

// An api accepts some tokens, and notes which it has seen.
type api struct {
	good      []string
	challenge string
	seen      []string
}

func (a *api) RoundTrip(req *http.Request) (*http.Response, error) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	a.seen = append(a.seen, token)
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
	if !slices.Contains(a.good, token) {
		resp.StatusCode = 401
		resp.Header.Set("WWW-Authenticate", "Bearer "+a.challenge)
	}
	return resp, nil
}

// A job is a program that is given a token.
type job struct {
	t      *testing.T
	api    *api
	source *transport.Source
	client *http.Client
	events []transport.EventType
}

func newJob(t *testing.T, cfg transport.SourceConfig, good ...string) *job {
	t.Helper()
	j := &job{t: t, api: &api{good: good}}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.OnEvent = func(_ context.Context, e transport.Event) { j.events = append(j.events, e.Type) }
	var err error
	if j.source, err = transport.NewSource(cfg); err != nil {
		t.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: j.source, Origins: []string{"https://api.test"}, Base: j.api})
	if err != nil {
		t.Fatal(err)
	}
	j.client = &http.Client{Transport: rt}
	return j
}

// get calls the API, and checks what that answers and which tokens it has seen.
func (j *job) get(status int, seen ...string) {
	j.t.Helper()
	j.api.seen = nil
	resp, err := j.client.Get("https://api.test/")
	if err != nil {
		j.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != status || !slices.Equal(j.api.seen, seen) {
		j.t.Errorf("the API answers %d and has seen %q, want %d and %q", resp.StatusCode, j.api.seen, status, seen)
	}
}

// fails checks that there is no token, and that the error says why and what to do, and nothing
// of a login.
func (j *job) fails(says ...string) {
	j.t.Helper()
	_, err := j.source.Token(j.t.Context())
	if err == nil {
		j.t.Fatal("there is a token")
	}
	text := err.Error()
	for _, s := range says {
		if !strings.Contains(text, s) {
			j.t.Errorf("the error is %q, want one that says %q", text, s)
		}
	}
	if errors.Is(err, transport.ErrLoginRequired) || errors.Is(err, transport.ErrStorage) || strings.Contains(strings.ToLower(text), "log in") || strings.Contains(text, "at-") {
		j.t.Errorf("the error is %q", text)
	}
}

// tokenFile returns a file, and a function that replaces its content.
func tokenFile(t *testing.T, content string) (path string, replace func(string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	replace = func(content string) {
		t.Helper()
		err := os.WriteFile(path+".new", []byte(content), 0o600)
		if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	replace(content)
	return path, replace
}

// jwt returns a token that expires after d.
func jwt(d time.Duration) string {
	return "eyJ." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"job","exp":%d}`, time.Now().Add(d).Unix())) + ".c2ln"
}

// TestFileThatIsReplaced: the new token is used within a minute, although the old one is still
// good, without a request or a log line that somebody would notice.
func TestFileThatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, replace := tokenFile(t, "at-1\n")
		j := newJob(t, external.File(path), "at-1", "at-2")
		j.get(200, "at-1")
		for range 10 { // nothing new is no event
			time.Sleep(2 * time.Minute)
			j.get(200, "at-1")
			synctest.Wait()
		}
		replace("at-2\r\n")
		j.get(200, "at-1")
		time.Sleep(time.Minute)
		j.get(200, "at-1") // and the file is read meanwhile
		synctest.Wait()
		j.get(200, "at-2")
		if want := []transport.EventType{transport.EventAdopted}; !slices.Equal(j.events, want) {
			t.Errorf("events %q, want %q", j.events, want)
		}
		st, err := j.source.Status(t.Context())
		if err != nil || st.State != transport.StateFresh || st.Generation != 2 {
			t.Errorf("status %+v, %v", st, err)
		}
	})
}

// TestRejectedTokenWhoseSuccessorIsThere: a request succeeds with the token that has replaced
// the one which the API rejects, however young that is, and whatever went before.
func TestRejectedTokenWhoseSuccessorIsThere(t *testing.T) {
	for _, age := range []time.Duration{0, time.Second, 10 * time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			path, replace := tokenFile(t, "at-1")
			j := newJob(t, external.File(path), "at-1")
			j.get(200, "at-1")
			time.Sleep(age)
			j.api.good = []string{"at-2"}
			j.get(401, "at-1") // The file has nothing better yet.
			time.Sleep(time.Second)
			replace("at-2")
			j.get(200, "at-1", "at-2")
			j.get(200, "at-2")
			j.api.good = []string{"at-3"}
			replace("at-3")
			j.get(200, "at-2", "at-3")
		})
	}
}

// TestTokenThatIsRejectedAndNotReplaced: whoever watches the program is told once whose fault
// that is; each request has the answer of the API.
func TestTokenThatIsRejectedAndNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, replace := tokenFile(t, "at-1")
		j := newJob(t, external.File(path), "at-2")
		time.Sleep(5 * time.Second)
		j.get(401, "at-1")
		time.Sleep(5 * time.Second)
		j.get(401, "at-1")
		synctest.Wait()
		if want := []transport.EventType{transport.EventRefreshFailed, transport.EventOutage}; !slices.Equal(j.events, want) {
			t.Errorf("events %q, want %q", j.events, want)
		}
		st, err := j.source.Status(t.Context())
		if err != nil || st.State != transport.StateOutage || !strings.Contains(st.Err.Error(), "the token in the file "+path+" was rejected by an API") {
			t.Errorf("status %+v, %v", st, err)
		}
		replace("at-2")
		j.get(200, "at-1", "at-2")
		synctest.Wait()
		if last := j.events[len(j.events)-1]; last != transport.EventRecovered {
			t.Errorf("the last event is %q", last)
		}
	})
}

// TestFileWithoutAToken: what is wrong with a file is said with its name. When it is mended the
// token is used at once, and while it is not, one that is good is used on.
func TestFileWithoutAToken(t *testing.T) {
	for _, tt := range []struct{ name, content, says string }{
		{"missing", "", "token"},
		{"empty", " \n", "there is none"},
		{"two tokens", "at-1\nat-2\n", "something else than just a token"},
		{"a header", "Authorization: Bearer at-1", "something else"},
		{"json", `{"access_token": "at-1"}`, "something else"},
		{"binary", "at-\x00", "something else"},
		{"endless", strings.Repeat("at-1", 1<<18), "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path, replace := tokenFile(t, tt.content)
				spoil := func() { replace(tt.content) }
				if tt.name == "missing" {
					spoil = func() { os.Remove(path) }
				}
				spoil()
				j := newJob(t, external.File(path), "at-9")
				j.fails("the token in the file "+path, tt.says, "whoever writes it has to put one there")
				time.Sleep(time.Second)
				j.fails(path)
				time.Sleep(time.Second)
				replace("at-9")
				j.get(200, "at-9")
				spoil()
				for range 5 {
					time.Sleep(time.Minute)
					j.get(200, "at-9")
					synctest.Wait()
				}
			})
		})
	}
	j := newJob(t, external.File(t.TempDir()))
	j.fails("is not a regular file")
}

// TestJWT: the expiry in a token tells when another one has to be there, and what is wrong if
// there is none.
func TestJWT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := jwt(10 * time.Minute)
		path, replace := tokenFile(t, first)
		second := jwt(20 * time.Minute)
		j := newJob(t, external.File(path), first, second)
		j.get(200, first)
		if st, err := j.source.Status(t.Context()); err != nil || !st.Expiry.Equal(time.Now().Add(10*time.Minute)) {
			t.Errorf("expiry %v, %v", st.Expiry, err)
		}
		time.Sleep(9*time.Minute + 55*time.Second) // Nobody had a reason to read the file.
		replace(second)
		j.get(200, second)
		time.Sleep(11 * time.Minute)
		j.fails("the token in the file "+path+" expired at 2000-01-01T00:20:00Z", "whoever writes it has to renew it")
		time.Sleep(time.Second)
		third := jwt(time.Hour)
		j.api.good = []string{third}
		replace(third)
		j.get(200, third)
	})
}

// TestTokensThatAreRenewedInTime: nobody hears of a file that is replaced a minute before its
// token expires, a hundred times.
func TestTokensThatAreRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := jwt(10 * time.Minute)
		path, replace := tokenFile(t, token)
		j := newJob(t, external.File(path), token)
		for range 100 {
			for range 9 * 6 {
				time.Sleep(10 * time.Second)
				resp, err := j.client.Get("https://api.test/")
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%v, %v", resp, err)
				}
				resp.Body.Close()
			}
			token = jwt(11 * time.Minute)
			j.api.good = append(j.api.good, token)
			replace(token)
		}
		for _, e := range j.events {
			if e != transport.EventAdopted {
				t.Errorf("event %q", e)
			}
		}
		if len(j.events) < 98 || len(j.events) > 101 {
			t.Errorf("%d events", len(j.events))
		}
	})
}

// TestManyCallersReadOnce: however many ask, the token is read once.
func TestManyCallersReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		source, err := transport.NewSource(external.Func("of the sidecar", func(context.Context) (transport.Token, error) {
			reads++
			time.Sleep(time.Second)
			return transport.Token{AccessToken: "at-1"}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				if tok, err := source.Token(t.Context()); err != nil || tok.AccessToken != "at-1" {
					t.Errorf("%v, %v", tok, err)
				}
			})
		}
		callers.Wait()
		if reads != 1 {
			t.Errorf("1000 callers, %d reads", reads)
		}
	})
}

// TestFunctionThatFails: the function is called seldom, its error is shown, and a panic is one.
func TestFunctionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, panics := 0, true
		down := errors.New("the sidecar is down")
		j := newJob(t, external.Func("of the sidecar", func(context.Context) (transport.Token, error) {
			if reads++; panics {
				panic("at-1")
			}
			return transport.Token{}, down
		}))
		j.fails("panic")
		time.Sleep(time.Minute)
		reads, panics = 0, false
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			j.fails("the token of the sidecar: the sidecar is down")
		}
		if reads > 110 { // in 10 s
			t.Errorf("%d reads", reads)
		}
		if _, err := j.source.Token(t.Context()); !errors.Is(err, down) || !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
}

// TestFunctionThatKnowsMore: the function may know what the token itself does not say.
func TestFunctionThatKnowsMore(t *testing.T) {
	at := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		token transport.Token
		says  string // "": it is used
	}{
		{transport.Token{AccessToken: "at-1", Type: "bearer", Expiry: at, Scope: "read"}, ""},
		{transport.Token{AccessToken: "at-1", Type: "DPoP"}, "bearer"},
	} {
		source, err := transport.NewSource(external.Func("of the sidecar", func(context.Context) (transport.Token, error) { return tt.token, nil }))
		if err != nil {
			t.Fatal(err)
		}
		got, err := source.Token(t.Context())
		switch {
		case tt.says != "" && (!errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("error %v", err)
		case tt.says == "" && (err != nil || got.AccessToken != "at-1" || got.Scope != "read" || !got.Expiry.Equal(at)):
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

// TestEnvironmentIsNotStored: a token from the environment of one run is not there in the next,
// and nothing is written anywhere (F5).
func TestEnvironmentIsNotStored(t *testing.T) {
	home := t.TempDir()
	t.Chdir(home)
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR", "AppData", "LocalAppData"} {
		t.Setenv(name, home)
	}
	t.Setenv("JOB_TOKEN", "at-1")
	j := newJob(t, external.Env("JOB_TOKEN"), "at-1")
	j.get(200, "at-1")
	j.api.good = nil
	j.get(401, "at-1")
	if err := j.source.Close(t.Context()); err != nil {
		t.Error(err)
	}
	os.Unsetenv("JOB_TOKEN")
	newJob(t, external.Env("JOB_TOKEN")).fails("the token in the environment variable JOB_TOKEN: there is none")
	if files, err := os.ReadDir(home); err != nil || len(files) > 0 {
		t.Errorf("there are %v, %v", files, err)
	}
}

// TestLoginAndLogoutAreElsewhere: a token that others give cannot be replaced or ended here, and
// the program that tries is told; it goes on with the token.
func TestLoginAndLogoutAreElsewhere(t *testing.T) {
	path, _ := tokenFile(t, "at-1")
	j := newJob(t, external.File(path), "at-1")
	j.get(200, "at-1")
	login := func(ctx context.Context) error {
		return j.source.Login(ctx, &tokencache.Record{AccessToken: "at-2", RefreshToken: "rt-2", LoginID: "a"})
	}
	for name, do := range map[string]func(context.Context) error{"login": login, "logout": j.source.Logout, "forget": j.source.Forget} {
		err := do(t.Context())
		if !errors.Is(err, transport.ErrMisconfigured) || errors.Is(err, transport.ErrStorage) || !strings.Contains(err.Error(), "the token is in the file "+path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	j.get(200, "at-1")
	if len(j.events) > 0 {
		t.Errorf("events %q", j.events)
	}
	if err := j.source.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPoolIsRefused: the token of a program is not given to each of its users.
func TestPoolIsRefused(t *testing.T) {
	path, _ := tokenFile(t, "at-1")
	pool, err := transport.NewPool(transport.PoolConfig{Source: external.File(path)})
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := pool.Source("ann").Token(t.Context()); !errors.Is(err, transport.ErrMisconfigured) || tok.AccessToken != "" {
		t.Errorf("%v, %v", tok, err)
	}
}

// TestClaimsThatAnAPIDemands: a token that lacks what an API demands is used by nobody any more,
// until there is another one.
func TestClaimsThatAnAPIDemands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, replace := tokenFile(t, "at-1")
		j := newJob(t, external.File(path), "at-2")
		j.api.challenge = `error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19"`
		j.get(401, "at-1")
		j.fails("the token in the file " + path)
		time.Sleep(time.Second)
		replace("at-2")
		j.get(200, "at-2")
	})
}

// TestKeepFreshReadsTheToken: a service need not wait for a request to have the new token.
func TestKeepFreshReadsTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, replace := tokenFile(t, "at-1")
		j := newJob(t, external.File(path), "at-2")
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { j.source.KeepFresh(ctx) })
		time.Sleep(time.Hour)
		replace("at-2")
		time.Sleep(2 * time.Minute)
		j.get(200, "at-2")
		cancel()
		ended.Wait()
	})
}

// TestNothingIsPrinted: what a program may print by accident has no token.
func TestNothingIsPrinted(t *testing.T) {
	path, _ := tokenFile(t, "at-1")
	cfg := external.File(path)
	j := newJob(t, cfg, "at-1")
	j.get(200, "at-1")
	for _, v := range []any{cfg, &cfg, cfg.Cache, cfg.Refresher, j.source, j.client.Transport} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "at-1") {
				t.Errorf("%s of a %T shows the token: %s", verb, v, s)
			}
		}
	}
}
