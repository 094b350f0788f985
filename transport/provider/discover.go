package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// Discover returns the provider at issuer, from the metadata that it publishes (RFC 8414, or
// else OpenID Connect Discovery). issuer is an https URL, exactly as the provider writes it: a
// trailing slash makes a difference. Plain http is for loopback addresses only.
//
// Errors are *transport.Error: ErrUnavailable if the provider could not be
// reached, and ErrMisconfigured if there is no metadata that can be trusted.
func Discover(ctx context.Context, issuer string) (*Provider, error) {
	return Discovery{}.Provider(ctx, issuer)
}

// A Discovery configures how providers are discovered. The zero value asks each time, which is
// right for a program that starts once and keeps running. A program that starts often should
// keep the answers in a directory, so that it starts quickly and works while the provider is
// down.
type Discovery struct {
	// Base sends the requests. Default: http.DefaultTransport.
	Base http.RoundTripper

	// Dir is a directory in which answers are kept, and which only this user can write to.
	// It is created when needed. A directory that belongs to another user, or that others
	// may write to, is not used: what they put there would decide where codes and secrets
	// are sent. Its files are public, and are checked like an answer. Default: nothing is
	// kept.
	Dir string

	// MaxAge is how long a kept answer is used without asking again. An older one is used
	// only while the provider cannot be reached. Default: 24 hours, because providers do
	// not move their endpoints from one day to the next.
	MaxAge time.Duration

	// InsecurePrivateAddresses allows what a Resource names to be anywhere, this machine and
	// the private network included. A stranger's API could otherwise not name those, and
	// have the program ask there what only it can reach (RFC 9728 section 7.7).
	//
	// Deprecated: It is for APIs inside a company's network only.
	InsecurePrivateAddresses bool

	named reach // who has named the issuer, and so how far that may lead
}

const (
	metadataTimeout = 15 * time.Second
	maxMetadata     = 1 << 20 // bytes; documents of a few KiB are usual
)

// Provider returns the provider at issuer, as Discover does.
func (d Discovery) Provider(ctx context.Context, issuer string) (*Provider, error) {
	if loopback.Problem(issuer) != "" || strings.ContainsAny(issuer, "?#") {
		return nil, refused("use the issuer's identifier: an https URL without user, query and fragment; plain http is for loopback addresses only", nil)
	}
	kept, age := d.load(issuer)
	maxAge := d.MaxAge
	if maxAge == 0 {
		maxAge = 24 * time.Hour
	}
	if kept != nil && age >= 0 && age < maxAge {
		return kept, nil
	}
	p, doc, err := d.fetch(ctx, issuer)
	switch {
	case err == nil:
		d.save(issuer, doc)
	case kept != nil && errors.Is(err, transport.ErrUnavailable) && ctx.Err() == nil:
		return kept, nil
	}
	return p, err
}

// wellKnown returns the URLs at which the metadata of an issuer can be, in the order in which
// they are tried: RFC 8414 section 3.1 puts its suffix between host and path, and that of OpenID
// Connect is found there (section 5) as well as after the path.
func wellKnown(issuer string) []string {
	issuer = strings.TrimSuffix(issuer, "/")
	places := []string{insert("/.well-known/oauth-authorization-server", issuer), insert("/.well-known/openid-configuration", issuer)}
	if after := issuer + "/.well-known/openid-configuration"; after != places[1] {
		places = append(places, after)
	}
	return places
}

// insert puts a suffix between the host of a URL and what follows it.
func insert(suffix, address string) string {
	root := rootOf(address)
	return root + suffix + address[len(root):]
}

// rootOf returns what stands before the path of a URL.
func rootOf(address string) string {
	start := strings.Index(address, "://") + len("://")
	if end := strings.IndexAny(address[start:], "/?"); end >= 0 {
		return address[:start+end]
	}
	return address
}

// fetch gets the metadata, and also returns the document.
func (d Discovery) fetch(ctx context.Context, issuer string) (*Provider, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	var worst error
	for _, place := range wellKnown(issuer) {
		doc, err := d.get(ctx, place, "check the issuer, or set the endpoints by hand")
		if err == nil {
			var p *Provider
			if p, err = d.parse(issuer, doc); err == nil {
				return p, doc, nil
			}
		}
		worst = moreTelling(worst, err)
	}
	return nil, nil, worst
}

// moreTelling returns what to say of two places: that a server is down, then that a document was
// refused, and only then that one is missing.
func moreTelling(first, second error) error {
	if first == nil || errors.Is(second, transport.ErrUnavailable) || errors.Is(first, errMissing) && !errors.Is(second, errMissing) {
		return second
	}
	return first
}

var errMissing = errors.New("there is no metadata")

// get fetches one document. The remedy is for one that is not there.
func (d Discovery) get(ctx context.Context, place, remedy string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return nil, refused("use an https URL without fragment", nil)
	}
	if d.named.refusesHost(req.URL.Hostname()) {
		return nil, privateAddress()
	}
	req.Header.Set("Accept", "application/json")
	base := d.Base
	if base == nil {
		base = d.named.transport(req)
	}
	resp, err := base.RoundTrip(req) // Not http.Client: a redirect could lead to anybody's metadata.
	if errors.Is(err, errPrivate) {
		return nil, privateAddress()
	}
	if err != nil {
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "discover", Err: neterror.Safe(err)}
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1))
	switch {
	case err != nil:
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "discover", Status: resp.StatusCode, Err: neterror.Safe(err)}
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500:
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "discover", Status: resp.StatusCode}
	case resp.StatusCode != http.StatusOK:
		e := refused(remedy, errMissing)
		e.Status = resp.StatusCode
		return nil, e
	case len(doc) > maxMetadata:
		return nil, refused(remedy, errors.New("the metadata is longer than 1 MiB"))
	}
	return doc, nil
}

// load returns the provider that was kept for issuer, and the age of the document.
func (d Discovery) load(issuer string) (*Provider, time.Duration) {
	if !d.trusted(d.Dir) {
		return nil, 0
	}
	info, err := os.Lstat(d.file(issuer))
	if err != nil || !info.Mode().IsRegular() || !d.trusted(d.file(issuer)) {
		return nil, 0
	}
	doc, err := os.ReadFile(d.file(issuer))
	if err != nil {
		return nil, 0
	}
	p, err := d.parse(issuer, doc)
	if err != nil {
		return nil, 0
	}
	return p, time.Since(info.ModTime())
}

// save keeps a document. If that fails, it will be fetched again.
func (d Discovery) save(issuer string, doc []byte) {
	if d.Dir == "" || os.MkdirAll(d.Dir, 0o700) != nil || !d.trusted(d.Dir) {
		return
	}
	f, err := os.CreateTemp(d.Dir, "discovery-*.tmp") // mode 0600
	if err != nil {
		return
	}
	_, err = f.Write(doc)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), d.file(issuer)) // Other processes see all of it or none.
	}
	if err != nil {
		os.Remove(f.Name())
	}
}

// trusted reports whether only this user can have written what is at path.
func (d Discovery) trusted(path string) bool {
	info, err := os.Stat(path)
	return d.Dir != "" && err == nil && isOurs(info)
}

func (d Discovery) file(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return filepath.Join(d.Dir, "discovery-"+hex.EncodeToString(sum[:16])+".json")
}

// refused is the error for metadata that is missing or cannot be trusted.
func refused(remedy string, cause error) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "discover", Remedy: remedy, Err: cause}
}
