package login

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// Loopback logs in with the browser on this machine (RFC 8252): it opens the provider's page in
// the browser, and the provider redirects the browser to a listener on a loopback address,
// which lives as long as this call and accepts one answer. If no browser can be opened, the
// user can open the page by hand.
//
// The login that it returns is for Source.Login. When ctx is done the attempt ends, and nothing
// is left of it. Errors are *transport.Error: ErrLoginRequired if the user refused or did not
// answer in time, ErrMisconfigured, ErrUnavailable, or ErrStorage if the Cache could not store
// the login.
func Loopback(ctx context.Context, cfg Config) (*tokencache.Record, error) {
	f, err := newFlow(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := f.limit(ctx)
	defer cancel()
	listeners, redirectURI, err := f.listen(ctx)
	if err != nil {
		return nil, err
	}
	r, err := f.newRequest(ctx, redirectURI)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return nil, err
	}
	cb := newCallback(r)
	stop := cb.serve(listeners)
	defer stop()

	f.say("To log in with %s, use the page that opens in your browser.\nIf none does, open this address:\n\n%s\n\n", f.name, r.url)
	if !r.expiry.IsZero() {
		f.say("It must be opened before %s.\n\n", r.expiry.Format("15:04:05"))
	}
	f.prompt(Prompt{URL: r.url, Expiry: r.expiry})
	opening, stopOpening := f.open(ctx, r.url)
	defer stopOpening()
	for {
		select {
		case err := <-opening:
			if err != nil {
				f.say("No browser could be opened here: %v.\n", err)
			}
			opening = nil
		case answer := <-cb.answer:
			rec, err := (*tokencache.Record)(nil), answer.err
			if err == nil {
				rec, err = r.exchange(ctx, answer.code)
			}
			cb.finish(ctx, err)
			return rec, err
		case <-ctx.Done():
			return nil, ended(ctx)
		}
	}
}

// open calls Open in the background, because a browser that was already running may bring the
// answer before Open returns. stop ends that.
func (f *flow) open(ctx context.Context, url string) (result <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ch <- f.Open(ctx, url) })
	return ch, func() {
		cancel()
		running.Wait()
	}
}

// listen returns listeners for the answer, and the redirect URI that leads to them.
func (f *flow) listen(ctx context.Context) ([]net.Listener, string, error) {
	if f.RedirectURL == "" {
		path := f.callbackPath(ctx)
		ls, uri, err := eitherFamily(path, func(u *url.URL) ([]net.Listener, string, error) { return listenAt(ctx, u) })
		if path != usualPath && err == nil {
			f.say("%s must have http://127.0.0.1%s among the redirect addresses of this program.\n", f.name, path)
		}
		if err != nil {
			return nil, "", misconfigured("RedirectURL", "this machine does not let the program listen on a loopback address; use Device or Paste", err)
		}
		return ls, uri, nil
	}
	u, err := url.Parse(f.RedirectURL)
	if err != nil || u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || !loopback.Is(u.Hostname()) {
		return nil, "", misconfigured("RedirectURL", "use http, a loopback address such as 127.0.0.1, [::1] or localhost as host, and no query", nil)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.String() != u.Hostname() {
		// Browsers send an address in its usual spelling (RFC 5952), and no other Host
		// is accepted.
		return nil, "", misconfigured("RedirectURL", "write the address as "+ip.String(), nil)
	}
	ls, uri, err := listenAt(ctx, u)
	if err != nil {
		return nil, "", misconfigured("RedirectURL", "another program may be using its port: end that, or use another port", err)
	}
	return ls, uri, nil
}

// eitherFamily listens on 127.0.0.1, or else on [::1]: a machine may have only one of the two
// (RFC 8252 section 7.3).
func eitherFamily(path string, listen func(*url.URL) ([]net.Listener, string, error)) ([]net.Listener, string, error) {
	ls, uri, err := listen(&url.URL{Scheme: "http", Host: "127.0.0.1", Path: path})
	if err != nil {
		ls, uri, err = listen(&url.URL{Scheme: "http", Host: "[::1]", Path: path})
	}
	return ls, uri, err
}

// listenAt listens on the host and port of u, or on a free port if it has none. If the host is
// localhost, a browser may use either address family, so nobody else may get the same port of
// the other one.
func listenAt(ctx context.Context, u *url.URL) (ls []net.Listener, redirectURI string, err error) {
	ips := []string{u.Hostname()}
	if strings.EqualFold(ips[0], "localhost") {
		ips = []string{"127.0.0.1", "::1"}
	}
	var lc net.ListenConfig
	for range 10 {
		port := u.Port()
		for i, ip := range ips {
			var l net.Listener
			l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(ip, cmp.Or(port, "0")))
			if err != nil && i > 0 && !available(ctx, ip) {
				err = nil // This machine does not have the other family.
				break
			}
			if err != nil {
				break
			}
			ls = append(ls, l)
			port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		}
		if err == nil {
			at := *u
			at.Host = net.JoinHostPort(u.Hostname(), port)
			return ls, at.String(), nil
		}
		for _, l := range ls {
			l.Close()
		}
		ls = nil
		if u.Port() != "" {
			break
		}
	}
	return nil, "", err
}

// available reports whether this machine has the address at all.
func available(ctx context.Context, ip string) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
