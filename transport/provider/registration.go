package provider

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/callbackpath"
	"github.com/stayauth/stayauth/transport/internal/neterror"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A registration is what a server has answered to a program that registered itself (RFC 7591
// section 3.2.1).
type registration struct {
	ClientID      string
	Secret        tokencache.Secret
	SecretExpires time.Time // zero: never
	AuthMethod    string
}

// authStyle returns how the client sends its secret, if it has one.
func (r *registration) authStyle() oauth2.AuthStyle {
	if r.AuthMethod == "" {
		return oauth2.AuthStyleInHeader // the default (section 2)
	}
	return authStyle([]string{r.AuthMethod})
}

// registrationIssuer marks an entry of the cache that is none of a login: its issuer has a
// fragment, as no real one has (RFC 8414 section 2).
const registrationIssuer = "#registration"

// The members in which an entry has it.
const (
	clientIDMember      = "client_id"
	clientSecretMember  = "client_secret"
	secretExpiresMember = "client_secret_expires_at"
	authMethodMember    = "token_endpoint_auth_method"
)

// registrationTime bounds a registration, with the wait for another process that is at it.
const registrationTime = time.Minute

func (c *Client) registrationKey(p *Provider) tokencache.Key {
	uris := slices.Sorted(slices.Values(c.RedirectURIs))
	return tokencache.Key{Issuer: p.Issuer + registrationIssuer, Audience: url.Values{"redirect_uri": uris}.Encode()}
}

// registration returns the client that the program is registered as, or registers it. All
// processes must be the same client: the login of one is refused to another (RFC 6749 section 6).
// So that is done under the lock of the entry.
func (c *Client) registration(ctx context.Context, p *Provider) (*registration, error) {
	ctx, cancel := context.WithTimeout(ctx, registrationTime)
	defer cancel()
	key := c.registrationKey(p)
	if r, _, err := c.loadRegistration(ctx, key); r != nil || err != nil {
		return r, err
	}
	unlock, err := c.Cache.Lock(ctx, key)
	if err != nil {
		return nil, registrationStorage(err)
	}
	defer unlock()
	r, v, err := c.loadRegistration(ctx, key)
	if r != nil || err != nil {
		return r, err
	}
	// First: a client that cannot be kept is not worth to be registered.
	if err := c.Cache.Preflight(ctx, key, &tokencache.Record{}); err != nil {
		return nil, registrationStorage(err)
	}
	if r, err = c.register(ctx, p); err != nil {
		return nil, err
	}
	rec := &tokencache.Record{ObtainedAt: time.Now().Round(0), Extra: map[string]tokencache.Secret{
		clientIDMember: tokencache.Secret(r.ClientID), clientSecretMember: r.Secret, authMethodMember: tokencache.Secret(r.AuthMethod)}}
	if !r.SecretExpires.IsZero() {
		rec.Extra[secretExpiresMember] = tokencache.Secret(strconv.FormatInt(r.SecretExpires.Unix(), 10))
	}
	if _, err := c.Cache.Save(ctx, key, rec, v); err != nil {
		return nil, registrationStorage(err)
	}
	return r, nil
}

// loadRegistration returns what is kept, or nil if there is nothing or its secret has expired.
func (c *Client) loadRegistration(ctx context.Context, key tokencache.Key) (*registration, tokencache.Version, error) {
	rec, v, err := c.Cache.Load(ctx, key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", registrationStorage(err)
	}
	r := &registration{ClientID: string(rec.Extra[clientIDMember]), Secret: rec.Extra[clientSecretMember], AuthMethod: string(rec.Extra[authMethodMember])}
	if at, err := strconv.ParseInt(string(rec.Extra[secretExpiresMember]), 10, 64); err == nil {
		r.SecretExpires = time.Unix(at, 0)
	}
	if r.ClientID == "" || !r.SecretExpires.IsZero() && !time.Now().Before(r.SecretExpires) {
		return nil, v, nil
	}
	return r, v, nil
}

// Forget makes the program register itself anew when Endpoint is next called, if it has registered
// itself at p and is clientID there: for servers that have forgotten their clients, and answer
// invalid_client. The logins of the forgotten client are lost.
func (c *Client) Forget(ctx context.Context, p *Provider, clientID string) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTime)
	defer cancel()
	key := c.registrationKey(p)
	unlock, err := c.Cache.Lock(ctx, key)
	if err != nil {
		return registrationStorage(err)
	}
	defer unlock()
	r, v, err := c.loadRegistration(ctx, key)
	if err != nil || r == nil || r.ClientID != clientID { // Another process was faster.
		return err
	}
	if err := c.Cache.Delete(ctx, key, v); err != nil {
		return registrationStorage(err)
	}
	return nil
}

// register registers the program (RFC 7591 section 3.1).
func (c *Client) register(ctx context.Context, p *Provider) (*registration, error) {
	m, err := c.metadata()
	if err != nil {
		return nil, err
	}
	if len(c.RedirectURIs) == 0 && p.Discovered && !p.SendsIss {
		m.RedirectURIs = append(m.RedirectURIs, "http://127.0.0.1"+callbackpath.Own(p.Issuer)) // See package login.
	}
	for _, method := range []string{"none", "client_secret_basic", "client_secret_post"} { // PKCE does for a public client.
		if m.AuthMethod == "" && (p.AuthMethods == nil || slices.Contains(p.AuthMethods, method)) {
			m.AuthMethod = method
		}
	}
	if m.AuthMethod == "" {
		return nil, clientError("Registered", registerRemedy, errors.New("the server accepts no client without a key"))
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, clientError("Name", "use text", nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.RegistrationURL, bytes.NewReader(body))
	if err != nil {
		return nil, clientError("Registered", registerRemedy, errors.New("the address for registrations is no URL"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	base := c.Base
	if base == nil {
		base = p.named.transport(req)
	}
	resp, err := base.RoundTrip(req) // Not http.Client: nothing follows a redirect.
	if errors.Is(err, errPrivate) {
		return nil, privateAddress()
	}
	if err != nil {
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "register", Err: neterror.Safe(err)}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1))
	if err != nil {
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "register", Status: resp.StatusCode, Err: neterror.Safe(err)}
	}
	return parseRegistration(resp.StatusCode, answer)
}

// parseRegistration reads the answer of a server. Errors show nothing of it but its error code and
// description (section 3.2.2).
func parseRegistration(status int, answer []byte) (*registration, error) {
	var a struct {
		ClientID    string          `json:"client_id"`
		Secret      string          `json:"client_secret"`
		Expires     json.RawMessage `json:"client_secret_expires_at"`
		AuthMethod  string          `json:"token_endpoint_auth_method"`
		Code        string          `json:"error"`
		Description string          `json:"error_description"`
	}
	bad := len(answer) > maxMetadata || json.Unmarshal(answer, &a) != nil
	switch {
	case status == http.StatusTooManyRequests || status >= 500:
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "register", Status: status}
	case status/100 != 2 && !bad:
		e := clientError("Registered", registerRemedy, nil)
		e.Status, e.Code, e.Description = status, text.Clean(a.Code), text.Clean(a.Description)
		if a.Code == "invalid_redirect_uri" {
			e.Field, e.Remedy = "Client.RedirectURIs", "use others, which this server allows"
		}
		return nil, e
	case status/100 != 2, bad, a.ClientID == "":
		e := clientError("Registered", registerRemedy, errors.New("the answer names no client"))
		e.Status = status
		return nil, e
	}
	r := &registration{ClientID: a.ClientID, Secret: tokencache.Secret(a.Secret), AuthMethod: a.AuthMethod}
	switch cmp.Or(a.AuthMethod, "client_secret_basic") {
	case "none":
		r.Secret = ""
	case "client_secret_basic", "client_secret_post":
	default:
		return nil, clientError("Registered", registerRemedy, fmt.Errorf("it was registered for %.100q", a.AuthMethod))
	}
	var at float64 // What cannot be read is taken for never: the server will say so if it has expired.
	if json.Unmarshal(a.Expires, &at) == nil && at > 0 && at < 1<<40 && r.Secret != "" {
		r.SecretExpires = time.Unix(int64(at), 0)
	}
	return r, nil
}

func registrationStorage(err error) error {
	return &transport.Error{Kind: transport.ErrStorage, Op: "register", Err: err}
}
