// Package clientauth has the ways in which a client proves to a provider who it is without a
// shared secret, for Endpoint.ClientAuth of package endpoint.
//
// A [PrivateKey] signs a statement for each request (private_key_jwt, RFC 7523 section 2.2 and
// OpenID Connect Core section 9). The provider has the public key alone, so nothing that it
// stores or logs can be used by somebody else, and the private key may stay in a key service or
// a hardware module: a crypto.Signer is enough. [KeyFile] reads one from a PEM file and notices
// when that is replaced.
//
//	auth := &clientauth.PrivateKey{Key: clientauth.KeyFile("/etc/app/key.pem", "key-2026")}
//
// A [Token] is a statement that the platform makes and renews: a Kubernetes service account
// token, a SPIFFE JWT-SVID, the identity token of a CI job.
//
//	auth := clientauth.TokenFile("/var/run/secrets/tokens/provider")
//
// Both are asked for each HTTP request, because providers refuse a statement that they have seen
// before. While they cannot answer, because a key service is down for instance, nothing is sent,
// so no refresh token is spent; the login goes on as in any other outage.
//
// A certificate that the client presents in TLS (RFC 8705) belongs to the connection: it is given
// to the Base of the Endpoint, and of the transport.Config if tokens are bound to it.
// [CertificateFile] reads it from PEM files and notices when they are replaced.
//
//	base := clientauth.WithCertificate(nil, clientauth.CertificateFile("/etc/app/tls.crt", "/etc/app/tls.key"))
//	e.Base, e.ClientCertificate = base, true
package clientauth
