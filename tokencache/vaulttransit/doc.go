/*
Package vaulttransit keeps the data keys that logins are sealed with under a key of the transit
engine of HashiCorp Vault or OpenBao. Whoever copies the store, or the whole machine of a
service that does not run, can read no login: the transit key never leaves the server, which
decides, and writes down, who unwraps.

	wrapper, err := vaulttransit.New(vaulttransit.Config{
		Address: "https://vault.internal:8200",
		Key:     "logins",
		Token:   vaulttransit.TokenFile("/run/vault/token"),
	})
	...
	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})

# The key and the rights

	vault secrets enable transit
	vault write -f transit/keys/logins
	vault policy write logins - <<EOF
	path "transit/encrypt/logins" { capabilities = ["update"] }
	path "transit/decrypt/logins" { capabilities = ["update"] }
	EOF

The key is of the default type, aes256-gcm96, and not derived. Do not grant "create": with it,
a wrong [Config.Key] makes a new key instead of an error. (vault write transit/config/keys
disable_upsert=true forbids that for everybody.) A program that only reads logins, to count
them for instance, needs decrypt alone.

Tokens end, so something has to renew them: Vault Agent or OpenBao Agent in the same pod, with
a sink file that [TokenFile] reads before each call, or with its API proxy, to which no token
need be sent. A function of your own that logs in, by Kubernetes or AppRole, should keep the
token until it has nearly expired.

# How often the server is asked

Once when a login is first saved, once when a process first loads it, and for logins in use
again after half of Envelope.MaxAge; never for a refresh. A call that finds the server
overloaded, or loses the connection, is sent three times at most, within the five seconds that
the cache gives it.

# Rotation

	vault write -f transit/keys/logins/rotate

gives the key a new version. New data keys are wrapped with it, and every older version still
unwraps. [tokencache.Cache.Rekey] wraps the data keys of all records with the new version, and
opens none of them. After that,

	vault write transit/keys/logins/config min_decryption_version=2

makes the old version useless. That can be taken back, until it is deleted by

	vault write transit/keys/logins/config min_encryption_version=2
	vault write transit/keys/logins/trim min_available_version=2

To change to a key of another name, put the old name into [Config.OldKeys]. A wrapped key is
stored with the name and the version of its key, as "logins:v3". The second example changes from
another key service.

# If the key is not there

If the server cannot be reached, is sealed, denies access, or does not have the key or its
version, errors are [tokencache.ErrUnavailable] and say what to do. Nothing is deleted, logins in
memory go on, and what is stored opens again when the server does. Only what the key itself
refuses as damaged is [tokencache.ErrCorrupt]. If the key was deleted and there is no backup of
the server's storage, no stored login can be opened by anybody, and users have to log in again:
leave deletion_allowed off.
*/
package vaulttransit
