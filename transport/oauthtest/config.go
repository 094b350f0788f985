package oauthtest

import (
	"crypto"
	"crypto/x509"
	"time"
)

// A Policy says what an authorization server does when a refresh token is spent, and when it is
// presented again.
type Policy int

// The policies of real providers.
const (
	// NoRotation: the answer has no refresh token, and the old one stays good.
	// Google, Dropbox.
	NoRotation Policy = iota

	// KeepOld: every answer has a new refresh token, and the old ones stay good.
	// Microsoft Entra.
	KeepOld

	// Strict: a refresh token can be spent once. Spending it also ends the access tokens
	// issued before. If it is presented again, it is refused, and nothing else happens.
	// GitHub, GitLab.
	Strict

	// StrictFamily: a refresh token can be spent once. Presenting it again revokes
	// the login: every refresh and access token of its family. Salesforce, and
	// Okta, Auth0 and Keycloak without a grace.
	StrictFamily

	// Grace: like StrictFamily, but a spent refresh token is accepted again for
	// Config.GracePeriod after it was first spent. All its successors are good.
	// Okta, Xero, Atlassian.
	Grace

	// SecondToLastKills: the server remembers two refresh tokens of a login, the current
	// one and the one before. The one before is accepted again, as after a crash that lost
	// the answer, and the new answer replaces the current one. Any older or replaced one
	// revokes the login. Config.GracePeriod limits this in time, as Auth0 does; zero means
	// no limit.
	SecondToLastKills
)

// An AuthStyle is the one way in which the client must authenticate (RFC 6749 section 2.3).
type AuthStyle int

// The ways of client authentication.
const (
	AuthBasic       AuthStyle = iota // client_secret_basic: HTTP Basic, each part form-encoded first
	AuthPost                         // client_secret_post: client_id and client_secret in the body
	AuthNone                         // none: a public client, client_id in the body and no secret
	AuthPrivateKey                   // private_key_jwt: an assertion for each request, signed by one of Config.ClientKeys
	AuthCertificate                  // tls_client_auth: a TLS certificate, see Config.ClientCertificates
)

// Config says how a Server behaves. The zero Config is a confidential client of
// a provider that does not rotate.
type Config struct {
	Policy      Policy        // Default: NoRotation.
	GracePeriod time.Duration // See Grace (default 30 s, as Okta) and SecondToLastKills.
	GraceSame   bool          // A token that is accepted again gets the same answer as before. Xero.
	AccessDies  bool          // Spending a refresh token ends the access tokens issued before. Strict always does it.

	AccessTTL   time.Duration // Life of an access token. Default: one hour. Answers give it in whole seconds, at least one.
	RefreshTTL  time.Duration // Life of a login, which a refresh does not extend. Default: no end.
	RefreshIdle time.Duration // Life of a login that is not used, which each refresh begins anew. Keycloak. Default: no end.
	NoExpiresIn bool          // Answers do not say how long the access token lives. Salesforce.
	Scope       string        // What a login is granted. With "openid" in it, there are ID tokens. Default: "api".

	// Resources are the APIs that a token can be for, by their origins (RFC 8707), as many as
	// there are. In memory they are served at these, as the API is at APIOrigin; elsewhere give
	// each a listener and the Handler. A login is good for those that were asked for, or for all,
	// a token for those that the token request names, or for the first of the login. Default:
	// any token is good for the API, whatever is asked for.
	Resources []string

	ClientID     string    // Default: "client".
	ClientSecret string    // Default: a random one, see Server.ClientSecret.
	AuthStyle    AuthStyle // Default: AuthBasic.

	// ClientKeys are the public keys of AuthPrivateKey, any of which may have signed:
	// *ecdsa.PublicKey on P-256, *rsa.PublicKey or ed25519.PublicKey, or a NamedKey of one. See
	// SetClientKeys.
	ClientKeys []crypto.PublicKey

	// ClientCertificates are the TLS certificates of the client, or authorities that have signed
	// them (RFC 8705), with AuthCertificate or another AuthStyle. With any, StartTLS asks for
	// certificates, and an access token is bound to the one with which it was requested: the API
	// refuses it on a connection that was made with another, or with none.
	ClientCertificates *x509.CertPool

	// OneAtATime refuses a refresh token while an earlier request with it is in progress,
	// with an invalid_grant that is not meant, and without spending or revoking anything.
	// Salesforce.
	OneAtATime bool

	// Latency is that of the token endpoint. Half of it passes before a grant is spent and
	// half after, so a client that gives up early may or may not have spent it.
	Latency time.Duration

	// DPoP says what the server makes of proofs of possession. Default: nothing.
	DPoP DPoP

	// Ahead is how far the clock of the whole server is ahead of this machine's: it dates its
	// answers by it, and judges what clients have signed. The API and expires_in are not
	// affected.
	Ahead time.Duration

	// Skew is how far the clock of the API is ahead of the clock that expires_in is counted
	// by: access tokens are rejected that much too early or, if it is negative, too late.
	Skew time.Duration
}

// Tokens are what a login or a refresh issued.
type Tokens struct {
	AccessToken  string
	RefreshToken string
	IDToken      string
	Scope        string
	Expiry       time.Time // of the access token
	Thumbprint   string    // of the key that the access token is bound to (RFC 7638); empty: it is a bearer token
}

// Counts is what a Server has seen so far. Requests are counted when they arrive, including
// those that then meet a Fault.
type Counts struct {
	TokenRequests   int // requests to the token endpoint, polls for a device among them, without Questions
	Questions       int // HEAD requests to anything but the API: is anybody there? They change nothing
	Rotations       int // refresh grants that were answered with tokens, under any policy
	Replays         int // spent refresh tokens that were accepted once more, within a grace
	Reuses          int // spent refresh tokens or codes that were presented again and refused
	FamiliesRevoked int // logins that were revoked because of a reuse
	InvalidGrants   int // answers invalid_grant, for any reason
	Revocations     int // requests to the revocation endpoint
	Assertions      int // client assertions that were presented

	RepeatedAssertions int // of these, those that had been presented before, and were refused

	Proofs          int // proofs of possession that were presented, to anything, and looked at
	RepeatedProofs  int // of these, those whose jti had been presented before, and were refused
	BadProofs       int // of these, those that were refused for any reason but the nonce
	NonceChallenges int // requests that were refused because the nonce of the proof was missing or old

	APINonceChallenges int // of these, those of the API
	StrayNonces        int // nonces of the token endpoint that were presented to the API, or the other way round
	Downgrades         int // access tokens bound to a key that were presented as bearer tokens, and refused

	Misdirected int // tokens that were presented to an API that they are not for, see Config.Resources
	APICalls    int // requests to the API
	APIRefused  int // of these, answered 401 or 403
	Connections int // connections accepted, in memory and over TCP
	Refused     int // connections, and requests of Direct, refused while the server was down
}
