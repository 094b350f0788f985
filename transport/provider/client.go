package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/callbackpath"
	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// A Client is a program at authorization servers that are known only when it runs, such as those
// that an API names, see Resource: it says who the program is at each of them. Identifiers and
// secrets belong to the issuer that they are for, and no other is sent them.
type Client struct {
	// Registered are the clients that somebody has registered for the program, by issuer.
	// They are used before anything else.
	Registered map[string]Credentials

	// DocumentURL is where the program's maker publishes Document: an https URL with a path,
	// which is the identifier of the program at all servers that read such documents, but
	// those that do not send iss, if the program can register itself there: see package login.
	// Default: there is none.
	DocumentURL string

	// Cache keeps what the program was given where it has registered itself (RFC 7591), as a
	// last resort, sealed like the logins and beside them: without it, they would be of no
	// use after a restart. Default: it does not register itself.
	Cache *tokencache.Cache

	// Name is what users see when they are asked whether the program may have access.
	// Required, unless only Registered is set.
	Name string

	// RedirectURIs are where servers send the browser back to, for login.Config or
	// login.WebConfig. With others, the program registers itself anew. Default:
	// http://127.0.0.1/callback with any port, as login.Loopback has it.
	RedirectURIs []string

	// Base sends the requests with which the program registers itself. Default:
	// http.DefaultTransport.
	Base http.RoundTripper
}

// Credentials are those of a client at one issuer.
type Credentials struct {
	ID     string
	Secret tokencache.Secret // "" for a public client
}

// Endpoint returns the endpoint of the program at p, for scopes in addition to those that p needs.
// If the program is not registered there and p does not read its document, it registers itself,
// once for all processes that share the Cache. Errors are *transport.Error.
func (c *Client) Endpoint(ctx context.Context, p *Provider, scopes ...string) (*endpoint.Endpoint, error) {
	if known, ok := c.Registered[p.Issuer]; ok {
		return p.Endpoint(known.ID, known.Secret, scopes...), nil
	}
	canRegister := c.Cache != nil && p.RegistrationURL != ""
	// A server that does not send iss needs a path of its own, which the document cannot have.
	if apart := p.Discovered && !p.SendsIss && len(c.RedirectURIs) == 0; c.DocumentURL != "" && p.ReadsClientDocuments && !(apart && canRegister) {
		if err := c.checkDocumentURL(); err != nil {
			return nil, err
		}
		return p.Endpoint(c.DocumentURL, "", scopes...), nil
	}
	if !canRegister {
		return nil, clientError("Registered", registerRemedy, fmt.Errorf("the program is unknown to %.200q", p.Issuer))
	}
	r, err := c.registration(ctx, p)
	if err != nil {
		return nil, err
	}
	known := *p
	known.AuthStyle = r.authStyle()
	return known.Endpoint(r.ClientID, r.Secret, scopes...), nil
}

// Document returns the document to publish at DocumentURL, as application/json
// (draft-ietf-oauth-client-id-metadata-document).
func (c *Client) Document() ([]byte, error) {
	if err := c.checkDocumentURL(); err != nil {
		return nil, err
	}
	m, err := c.metadata()
	if err != nil {
		return nil, err
	}
	m.ClientID, m.AuthMethod = c.DocumentURL, "none"
	return json.MarshalIndent(m, "", "  ")
}

// checkDocumentURL says whether DocumentURL can be the identifier of a client: section 3 of the
// draft.
func (c *Client) checkDocumentURL() error {
	u, err := url.Parse(c.DocumentURL)
	segments := strings.Split(c.DocumentURL, "/")
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Path == "" || u.User != nil || strings.ContainsAny(c.DocumentURL, "#?") ||
		slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return clientError("DocumentURL", "use an https URL with a path, such as https://example.com/client.json", nil)
	}
	return nil
}

// clientMetadata is what a client says of itself (RFC 7591 section 2).
type clientMetadata struct {
	ClientID        string   `json:"client_id,omitempty"` // in a document
	Name            string   `json:"client_name"`
	RedirectURIs    []string `json:"redirect_uris"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	ApplicationType string   `json:"application_type"` // OpenID Connect Dynamic Client Registration section 2
}

func (c *Client) metadata() (*clientMetadata, error) {
	if c.Name == "" {
		return nil, clientError("Name", "set it: users must know who asks for access", nil)
	}
	m := &clientMetadata{
		Name:          c.Name,
		RedirectURIs:  slices.Clone(c.RedirectURIs),
		GrantTypes:    []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"},
	}
	if len(m.RedirectURIs) == 0 {
		m.RedirectURIs = []string{defaultRedirectURI}
	}
	for _, raw := range m.RedirectURIs {
		u, err := url.Parse(raw)
		if err != nil || !u.IsAbs() || strings.Contains(raw, "#") { // RFC 6749 section 3.1.2
			return nil, clientError("RedirectURIs", "use absolute URLs without fragment", nil)
		}
		kind := "native" // A server that knows the difference takes "web" for the default.
		if web := u.Scheme == "https" || u.Scheme == "http"; web && !loopback.Is(u.Hostname()) {
			kind = "web"
		}
		if m.ApplicationType != "" && m.ApplicationType != kind {
			return nil, clientError("RedirectURIs", "use loopback addresses or those of a web application, and not both", nil)
		}
		m.ApplicationType = kind
	}
	return m, nil
}

const registerRemedy = "register the program with this issuer, and set it"

const defaultRedirectURI = "http://127.0.0.1" + callbackpath.Usual

func clientError(field, remedy string, cause error) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "register", Field: "Client." + field, Remedy: remedy, Err: cause}
}
