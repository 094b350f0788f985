package realparts

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// AddKeyClient makes a client like Confidential that has keys (private_key_jwt), and may also act
// for itself and exchange tokens. The keys are JSON Web Keys.
func (r *Realm) AddKeyClient(id, alg string, jwks ...map[string]any) Client {
	r.t.Helper()
	keys, _ := json.Marshal(map[string]any{"keys": jwks})
	r.admin(http.MethodPost, "/"+r.Name+"/clients", map[string]any{
		"clientId": id, "clientAuthenticatorType": "client-jwt", "serviceAccountsEnabled": true, "directAccessGrantsEnabled": true,
		"redirectUris": []string{"http://127.0.0.1/*"},
		"attributes": map[string]string{"token.endpoint.auth.signing.alg": alg, "use.jwks.string": "true", "jwks.string": string(keys),
			"oauth2.device.authorization.grant.enabled": "true", "standard.token.exchange.enabled": "true"},
	}, nil)
	return Client{ID: id}
}

// AddCertificateClient makes a client like Confidential that has a certificate of the server's CA
// (tls_client_auth), to which its tokens are bound. id is also the name for IssueClient.
func (r *Realm) AddCertificateClient(id string) Client {
	r.t.Helper()
	r.admin(http.MethodPost, "/"+r.Name+"/clients", map[string]any{
		"clientId": id, "clientAuthenticatorType": "client-x509", "serviceAccountsEnabled": true,
		"redirectUris": []string{"http://127.0.0.1/*"},
		"attributes": map[string]string{"x509.subjectdn": "CN=" + id, "x509.allow.regex.pattern.comparison": "false",
			"tls.client.certificate.bound.access.tokens": "true"},
	}, nil)
	return Client{ID: id}
}

// AddBoundClient makes a client like Public whose tokens are all bound to a key (RFC 9449).
func (r *Realm) AddBoundClient(id string) Client {
	r.t.Helper()
	r.admin(http.MethodPost, "/"+r.Name+"/clients", map[string]any{
		"clientId": id, "publicClient": true, "directAccessGrantsEnabled": true, "redirectUris": []string{"http://127.0.0.1/*"},
		"attributes": map[string]string{"dpop.bound.access.tokens": "true"},
	}, nil)
	return Client{ID: id}
}

// StepUp makes the realm log users in at two levels, which it calls "silver" and "gold" (acr, OpenID
// Connect Core section 2): with the password, and with the password once more.
func (r *Realm) StepUp() {
	r.t.Helper()
	const flow = "step-up"
	authentication := "/" + r.Name + "/authentication"
	add := func(to, what string, body map[string]any) {
		r.admin(http.MethodPost, authentication+"/flows/"+to+"/executions/"+what, body, nil)
	}
	r.admin(http.MethodPost, authentication+"/flows", map[string]any{"alias": flow, "providerId": "basic-flow", "topLevel": true}, nil)
	add(flow, "execution", map[string]any{"provider": "auth-cookie"})
	add(flow, "flow", map[string]any{"alias": "levels", "type": "basic-flow"})
	for _, level := range [][2]string{{"silver", "auth-username-password-form"}, {"gold", "auth-password-form"}} {
		add("levels", "flow", map[string]any{"alias": level[0], "type": "basic-flow"})
		add(level[0], "execution", map[string]any{"provider": "conditional-level-of-authentication"})
		add(level[0], "execution", map[string]any{"provider": level[1]})
	}

	requirement := map[string]string{"levels": "ALTERNATIVE", "auth-cookie": "ALTERNATIVE", "silver": "CONDITIONAL", "gold": "CONDITIONAL"}
	var executions []map[string]any
	r.admin(http.MethodGet, authentication+"/flows/"+flow+"/executions", nil, &executions)
	loa := 0
	for _, e := range executions {
		e["requirement"] = "REQUIRED"
		for _, name := range []string{"displayName", "providerId"} {
			if how := requirement[fmt.Sprint(e[name])]; how != "" {
				e["requirement"] = how
			}
		}
		r.admin(http.MethodPut, authentication+"/flows/"+flow+"/executions", e, nil)
		if e["providerId"] == "conditional-level-of-authentication" {
			loa++
			r.admin(http.MethodPost, fmt.Sprintf("%s/executions/%s/config", authentication, e["id"]), map[string]any{
				"alias": fmt.Sprint("level ", loa), "config": map[string]string{"loa-condition-level": fmt.Sprint(loa), "loa-max-age": "36000"},
			}, nil)
		}
	}
	r.Set(map[string]any{"browserFlow": flow, "attributes": map[string]string{"acr.loa.map": `{"silver":1,"gold":2}`}})
}
