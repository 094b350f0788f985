package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// metadata is the part of an authorization server's metadata that is used here (RFC 8414
// section 2 and the RFCs that add to it).
type metadata struct {
	endpoints
	Issuer      string   `json:"issuer"`
	AuthURL     string   `json:"authorization_endpoint"`
	RequirePAR  bool     `json:"require_pushed_authorization_requests"`
	SendsIss    bool     `json:"authorization_response_iss_parameter_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	Scopes      []string `json:"scopes_supported"`
	PKCEMethods []string `json:"code_challenge_methods_supported"`

	// What is wrong with these is nothing to clients that do not need them.
	AuthAlgorithms json.RawMessage `json:"token_endpoint_auth_signing_alg_values_supported"`
	DPoPAlgorithms json.RawMessage `json:"dpop_signing_alg_values_supported"`
	Registration   json.RawMessage `json:"registration_endpoint"`
	Documents      json.RawMessage `json:"client_id_metadata_document_supported"`
	Aliases        json.RawMessage `json:"mtls_endpoint_aliases"`
}

// endpoints are those that the client itself asks.
type endpoints struct {
	TokenURL      string `json:"token_endpoint"`
	DeviceAuthURL string `json:"device_authorization_endpoint"`
	RevocationURL string `json:"revocation_endpoint"`
	PARURL        string `json:"pushed_authorization_request_endpoint"`
}

// algorithms returns the names in a list of them, or nil.
func algorithms(list json.RawMessage) (names []string) {
	if json.Unmarshal(list, &names) != nil {
		return nil
	}
	return names
}

// aliases returns where clients with a certificate reach the endpoints (RFC 8705 section 5). What
// is wrong with an alias is said by an Endpoint that is to use it: it is nothing to all others.
func (m *metadata) aliases() map[string]string {
	var a endpoints
	json.Unmarshal(m.Aliases, &a) // Whatever else is in there.
	all := map[string]string{m.TokenURL: a.TokenURL, m.DeviceAuthURL: a.DeviceAuthURL, m.RevocationURL: a.RevocationURL, m.PARURL: a.PARURL}
	maps.DeleteFunc(all, func(usual, alias string) bool { return usual == "" || alias == "" })
	if len(all) == 0 {
		return nil
	}
	return all
}

// parse returns the provider that doc describes, if doc is that of issuer.
func (d Discovery) parse(issuer string, doc []byte) (*Provider, error) {
	var m metadata
	if err := json.Unmarshal(doc, &m); err != nil {
		return nil, refused("check the issuer, or set the endpoints by hand", errors.New("the answer is not metadata"))
	}
	// RFC 8414 sections 3.3 and 6.2: somebody who may publish under some path of a host
	// must not speak for another issuer on that host.
	if m.Issuer != issuer {
		return nil, refused("if that is the one you mean, use exactly its identifier",
			fmt.Errorf("the metadata is that of the issuer %.200q", m.Issuer))
	}
	if m.TokenURL == "" {
		return nil, refused("set the endpoints by hand", errors.New("the metadata names no token endpoint"))
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, refused("use the issuer's identifier: an https URL", nil)
	}
	for _, e := range []struct{ name, url string }{
		{"issuer", m.Issuer}, {"authorization_endpoint", m.AuthURL}, {"token_endpoint", m.TokenURL},
		{"device_authorization_endpoint", m.DeviceAuthURL}, {"revocation_endpoint", m.RevocationURL},
		{"pushed_authorization_request_endpoint", m.PARURL},
	} {
		if e.url == "" {
			continue
		}
		if err := d.endpointProblem(issuer, e.url); errors.Is(err, errPrivate) {
			return nil, privateAddress()
		} else if err != nil {
			return nil, refused("set the endpoints by hand, if you trust them", fmt.Errorf("%s: %w", e.name, err))
		}
	}
	p := &Provider{
		Name:           u.Host,
		Issuer:         m.Issuer,
		Discovered:     true,
		AuthURL:        m.AuthURL,
		TokenURL:       m.TokenURL,
		DeviceAuthURL:  m.DeviceAuthURL,
		RevocationURL:  m.RevocationURL,
		PARURL:         m.PARURL,
		RequirePAR:     m.RequirePAR,
		SendsIss:       m.SendsIss,
		NoPKCE:         (len(m.PKCEMethods) > 0 || d.named.strictly()) && !slices.Contains(m.PKCEMethods, "S256"), // Many do not list what they have.
		AuthStyle:      authStyle(m.AuthMethods),
		AuthMethods:    m.AuthMethods,
		AuthAlgorithms: algorithms(m.AuthAlgorithms),
		MTLSAliases:    m.aliases(),
		DPoPAlgorithms: algorithms(m.DPoPAlgorithms),

		ReadsClientDocuments: string(m.Documents) == "true",
		named:                d.named,
	}
	var registration string
	if json.Unmarshal(m.Registration, &registration) == nil && d.endpointProblem(issuer, registration) == nil {
		p.RegistrationURL = registration
	}
	maps.DeleteFunc(p.MTLSAliases, func(_, alias string) bool { return errors.Is(d.endpointProblem(issuer, alias), errPrivate) })
	if slices.Contains(m.Scopes, "offline_access") {
		// OpenID Connect Core section 11: without the prompt the scope may be ignored.
		// A preset, which knows its provider, omits the prompt where it can.
		p.Scopes = []string{"offline_access"}
		p.AuthParams = url.Values{"prompt": {"consent"}}
	}
	return p, nil
}

// endpointProblem returns what is wrong with an address in the metadata of issuer, or nil.
func (d Discovery) endpointProblem(issuer, raw string) error {
	problem := loopback.Problem(raw)
	if problem == "" && secure(issuer) && !secure(raw) {
		problem = "use https, as the issuer does"
	}
	if problem != "" {
		return errors.New(problem)
	}
	if u, err := url.Parse(raw); err != nil || d.named.refusesHost(u.Hostname()) {
		return errPrivate
	}
	return nil
}

// authStyle returns how a client sends its secret. An empty list means client_secret_basic (RFC
// 8414 section 2). If the server takes the secret in neither way, there is no style, and an
// Endpoint with a secret says so.
func authStyle(methods []string) oauth2.AuthStyle {
	switch {
	case methods == nil, slices.Contains(methods, "client_secret_basic"):
		return oauth2.AuthStyleInHeader
	case slices.Contains(methods, "client_secret_post"):
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleAutoDetect
}
