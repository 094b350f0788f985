package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// A Resource is an API that says itself which authorization servers issue tokens for it (RFC
// 9728), such as an MCP server.
type Resource struct {
	ID      string   // its identifier, which tokens are requested for (RFC 8707)
	Issuers []string // its authorization servers, at least one, in its order
	Scopes  []string // what it wants a login to ask for; nil if it does not say

	via Discovery
}

// DiscoverResource returns the API at address, from the metadata that it publishes. The challenges
// of a request without a token, if there was one, say where that is and which scopes are wanted:
//
//	resource, err := provider.DiscoverResource(ctx, resp.Request.URL.String(), transport.ParseChallenges(resp.Header)...)
//	p, err := resource.Provider(ctx, resource.Issuers[0])
//
// Whoever runs the API decides what it says, and is only believed about the API itself. Nothing on
// this machine or in a private network is asked, unless address is itself on a loopback address:
// then what is on this machine is. Errors are those of Discover.
func DiscoverResource(ctx context.Context, address string, challenges ...transport.Challenge) (*Resource, error) {
	return Discovery{}.Resource(ctx, address, challenges...)
}

const (
	resourceWellKnown = "/.well-known/oauth-protected-resource"
	resourceRemedy    = "check the address, or ask whoever runs the API for the issuer of its tokens, and use Discover"
)

// Resource returns the API at address, as DiscoverResource does. It is asked each time: nothing of
// what it says is kept in Dir. A Base that looks up names itself decides itself which of them stand
// for private addresses. It must not be one that sends tokens.
func (d Discovery) Resource(ctx context.Context, address string, challenges ...transport.Challenge) (*Resource, error) {
	if loopback.Problem(address) != "" {
		return nil, refused("use the API's address: an https URL without user and fragment; plain http is for loopback addresses only", nil)
	}
	if _, ok := d.Base.(*transport.Transport); ok {
		return nil, refused("use a Base without a login: no token belongs into these requests", nil)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, refused("use the API's address: an https URL", nil)
	case d.InsecurePrivateAddresses:
		d.named = evenPrivate
	case loopback.Is(u.Hostname()):
		d.named = loopbackToo
	default:
		d.named = publicOnly
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	var worst error
	for _, place := range resourcePlaces(address, challenges) {
		r, err := d.resourceAt(ctx, place, address)
		if err == nil {
			if scopes := challenged(challenges, "scope"); scopes != "" {
				r.Scopes = strings.Fields(scopes) // They say what this request needs.
			}
			return r, nil
		}
		worst = moreTelling(worst, err)
		if errors.Is(err, transport.ErrUnavailable) {
			break // Another place may name another issuer, and belong to other logins.
		}
	}
	return nil, worst
}

// resourcePlaces returns the URLs at which the metadata of the API can be: the one that a challenge
// names (RFC 9728 section 5.1) or, if there is none, that of the address (section 3.1) and, as the
// MCP specification adds, that of its host.
func resourcePlaces(address string, challenges []transport.Challenge) []string {
	if place := challenged(challenges, "resource_metadata"); place != "" {
		return []string{place}
	}
	root := rootOf(address)
	if strings.TrimSuffix(address, "/") == root {
		address = root // Section 3.1: no slash after the host.
	}
	return slices.Compact([]string{insert(resourceWellKnown, address), root + resourceWellKnown})
}

// challenged returns a parameter of the first challenge that has it, or "".
func challenged(challenges []transport.Challenge, name string) string {
	for _, c := range challenges {
		if v := c.Params[name]; v != "" {
			return v
		}
	}
	return ""
}

// resourceAt returns the API that the document at place describes, if that is the one at address.
func (d Discovery) resourceAt(ctx context.Context, place, address string) (*Resource, error) {
	if remedy := loopback.Problem(place); remedy != "" {
		return nil, refused(resourceRemedy, errors.New("the address of the metadata: "+remedy))
	}
	if secure(address) && !secure(place) {
		return nil, refused(resourceRemedy, errors.New("the address of the metadata is plain http, unlike that of the API"))
	}
	doc, err := d.get(ctx, place, resourceRemedy)
	if err != nil {
		return nil, err
	}
	r, err := parseResource(doc)
	if err != nil {
		return nil, err
	}
	// Section 3.3: otherwise one API could get the tokens of another, or of the whole host, by
	// naming it. Only who publishes at the root of the host speaks for all of it.
	root := rootOf(address)
	ofHost := place == root+resourceWellKnown && strings.TrimSuffix(r.ID, "/") == root
	if r.ID != address && !ofHost {
		id, _, _ := strings.Cut(r.ID, "?") // It may quote what the API was asked.
		return nil, refused("if that is the one you mean, use exactly its identifier as the address",
			fmt.Errorf("the metadata is that of the resource %.200q", id))
	}
	r.via = d
	return r, nil
}

func secure(address string) bool { return strings.EqualFold(address[:min(len(address), 6)], "https:") }

// parseResource reads the metadata of an API (RFC 9728 section 2).
func parseResource(doc []byte) (*Resource, error) {
	var m struct {
		ID      string          `json:"resource"`
		Issuers []string        `json:"authorization_servers"`
		Scopes  json.RawMessage `json:"scopes_supported"` // What is wrong with it is no reason to refuse the rest.
	}
	if json.Unmarshal(doc, &m) != nil {
		return nil, refused(resourceRemedy, errors.New("the answer is not metadata"))
	}
	r := &Resource{ID: m.ID, Issuers: slices.DeleteFunc(m.Issuers, func(s string) bool { return s == "" })}
	if len(r.Issuers) == 0 {
		return nil, refused(resourceRemedy, errors.New("the metadata names no authorization server"))
	}
	if json.Unmarshal(m.Scopes, &r.Scopes) != nil {
		r.Scopes = nil
	}
	return r, nil
}

// maxScope is how many bytes of scopes are asked for: a browser has to carry them in an address.
const maxScope = 4 << 10

// Provider returns one of the authorization servers of r, from its own metadata: as Discovery does,
// but it must say that it supports PKCE, or no login with it succeeds (Provider.NoPKCE), and its
// endpoints must not be at private addresses. Its Endpoint requests tokens for r, and asks for the
// Scopes of r, unless they have more than 4 KiB, and, if the server has that, for offline access.
//
// The stored login of r is found by the issuer: if the API names another one some day, there is no
// login yet, and nothing of the old one is sent there. Client secrets are not found that way:
// the program must not give the Endpoint one that another issuer has issued.
func (r *Resource) Provider(ctx context.Context, issuer string) (*Provider, error) {
	if !slices.Contains(r.Issuers, issuer) {
		return nil, refused("use one of Resource.Issuers", nil)
	}
	if secure(r.ID) && !secure(issuer) {
		return nil, refused(resourceRemedy, errors.New("the issuer is plain http, unlike the API"))
	}
	d := r.via
	d.named = max(d.named, publicOnly)
	p, err := d.Provider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	p.Resource, p.Origins = r.ID, []string{rootOf(r.ID)}
	scopes := r.Scopes
	if len(strings.Join(scopes, " ")) > maxScope {
		scopes = nil
	}
	for _, scope := range scopes {
		if scope != "offline_access" && !slices.Contains(p.Scopes, scope) { // That is up to the server.
			p.Scopes = append(p.Scopes, scope)
		}
	}
	return p, nil
}
