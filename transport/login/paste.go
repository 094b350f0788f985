package login

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// Paste logs in with a browser on another machine, when this program runs over SSH for
// instance: it shows an address, which the user opens there, and the user pastes the address at
// which the browser ends. That page cannot be reached, and need not be. A RedirectURL, if it is
// set, may be any that is registered with the provider.
//
// The login that it returns is for Source.Login. Errors are those of Loopback. When
// ctx ends, Paste returns, but a Read from Config.In that waits for the user goes on
// until there is something to read.
func Paste(ctx context.Context, cfg Config) (*tokencache.Record, error) {
	f, err := newFlow(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := f.limit(ctx)
	defer cancel()
	path := f.callbackPath(ctx)
	redirectURI := cmp.Or(f.RedirectURL, nowhere+path)
	if u, err := url.Parse(redirectURI); err != nil || !u.IsAbs() || strings.Contains(redirectURI, "#") {
		return nil, misconfigured("RedirectURL", "use an absolute URL without fragment, as it is registered at the provider", nil)
	}
	r, err := f.newRequest(ctx, redirectURI)
	if err != nil {
		return nil, err
	}
	f.say("To log in with %s, open this address in a browser on any machine:\n\n%s\n\n", f.name, r.url)
	if !r.expiry.IsZero() {
		f.say("It must be opened before %s.\n\n", r.expiry.Format("15:04:05"))
	}
	f.say("When you have logged in, the browser ends at a page whose address begins with\n%s\n", redirectURI)
	if f.RedirectURL == "" {
		f.say("and which it cannot open. That is as it should be.\n")
	}
	f.say("Copy the address, paste it here, and press Enter:\n")
	f.prompt(Prompt{URL: r.url, Expiry: r.expiry})

	in := bufio.NewScanner(f.In)
	in.Buffer(nil, maxLine)
	for {
		select {
		case line, ok := <-nextLine(in):
			if !ok {
				return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "login",
					Remedy: "log in again, and paste the address", Err: errors.New("the input ended")}
			}
			if line == "" {
				continue
			}
			answer := pasted(line)
			if f.RedirectURL == "" && path != usualPath && !sameAddress(line, redirectURI) {
				answer = nil
			}
			code, err := r.code(answer)
			if errors.Is(err, errForeign) {
				f.say("That is not the address that this login ends at. Copy all of it, and paste it here:\n")
				continue
			}
			if err != nil {
				return nil, err
			}
			return r.exchange(ctx, code)
		case <-ctx.Done():
			return nil, ended(ctx)
		}
	}
}

// nowhere is the redirect URI of Paste. Browsers refuse to open this port, so the code is not
// sent to a program that listens on the browser's machine.
const nowhere = "http://127.0.0.1:9"

// maxLine is the length in bytes of the longest line that is read. The codes of some providers
// have more than 1000 characters.
const maxLine = 64 << 10

// nextLine reads one line, and no more: the next one may be for another reader of the input.
// The channel is closed at the end of the input.
func nextLine(in *bufio.Scanner) <-chan string {
	line := make(chan string, 1)
	go func() {
		defer close(line)
		if in.Scan() {
			line <- strings.TrimSpace(in.Text())
		}
	}()
	return line
}

// pasted returns the parameters in what the user has pasted: an address, or only the part with
// the parameters.
func pasted(line string) url.Values {
	line = strings.Trim(line, "\"'<> \t")
	if _, query, ok := strings.Cut(line, "?"); ok {
		line = query
	}
	line, _, _ = strings.Cut(line, "#")
	params, err := url.ParseQuery(line)
	if err != nil {
		return nil
	}
	return params
}
