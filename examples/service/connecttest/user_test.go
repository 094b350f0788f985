package connecttest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A user has a browser, and presses the button until the page says that the account is
// connected.
type user struct {
	name   string
	swarm  *swarm
	rand   *rand.Rand
	client *http.Client
	twins  sync.WaitGroup

	tries    int      // of the button
	promises int      // answers that led to the application as a login does
	wrong    []string // pages that no user should see
	seen     strings.Builder
}

// toProvider has the users' connections to the provider.
var toProvider = &http.Transport{MaxIdleConnsPerHost: 100}

func newUser(name string, s *swarm, seed uint64) *user {
	jar, _ := cookiejar.New(nil) // There is never an error.
	u := &user{name: name, swarm: s, rand: rand.New(rand.NewPCG(seed, 1))}
	site, _ := url.Parse(appURL)
	jar.SetCookies(site, []*http.Cookie{{Name: "user", Value: name, Path: "/", Secure: true}})
	u.client = &http.Client{Jar: jar, Transport: u}
	return u
}

// RoundTrip is the network of the browser. Some send the answer of the provider twice.
func (u *user) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "app.test" {
		if req.URL.Path == "/authorize" { // The user signs in there.
			req.URL.RawQuery += "&login_hint=" + u.name
		}
		return toProvider.RoundTrip(req)
	}
	if req.URL.Path == "/callback" && req.URL.Query().Has("code") && u.rand.IntN(4) == 0 {
		twin := req.Clone(req.Context())
		pause := time.Duration(u.rand.Int64N(int64(100 * time.Millisecond)))
		u.twins.Go(func() {
			time.Sleep(pause)
			if resp, err := u.swarm.RoundTrip(twin); err == nil {
				resp.Body.Close()
			}
		})
	}
	resp, err := u.swarm.RoundTrip(req)
	if err == nil && req.URL.Path == "/callback" && resp.Header.Get("Location") == "/" {
		u.promises++
	}
	return resp, err
}

// connect returns when the user has seen that the account is connected.
func (u *user) connect(ctx context.Context) error {
	defer u.twins.Wait()
	last := ""
	for ctx.Err() == nil {
		u.tries++
		before := u.promises
		form, err := http.NewRequestWithContext(ctx, http.MethodPost, appURL+"/connect", strings.NewReader("return=%2F"))
		if err != nil {
			return err
		}
		form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form.Header.Set("Sec-Fetch-Site", "same-origin")
		status, page, err := u.open(form)
		for tries := 0; err == nil && u.promises > before && status >= 500 && tries < 20; tries++ { // The user reloads.
			var reload *http.Request
			if reload, err = http.NewRequestWithContext(ctx, http.MethodGet, appURL+"/", nil); err == nil {
				time.Sleep(100 * time.Millisecond)
				status, page, err = u.open(reload)
			}
		}
		if err != nil {
			return err
		}
		_, title, _ := strings.Cut(page, "<title>")
		last = fmt.Sprintf("HTTP %d: %.60s", status, cmp.Or(title, page))
		switch {
		case page == connectedAs+u.name:
			return nil
		case strings.HasPrefix(page, connectedAs), u.promises > before && status == http.StatusOK,
			status != http.StatusOK && status != http.StatusBadGateway && status != http.StatusServiceUnavailable:
			u.wrong = append(u.wrong, last)
		}
		time.Sleep(time.Duration(u.rand.Int64N(int64(200 * time.Millisecond))))
	}
	return fmt.Errorf("not connected after %d attempts; the last page: %s", u.tries, last)
}

// open follows a request to the page at its end.
func (u *user) open(req *http.Request) (status int, page string, err error) {
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Fprintf(&u.seen, "%s\n", body)
	return resp.StatusCode, string(body), err
}
