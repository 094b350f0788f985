package realparts

import (
	"encoding/json"
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
