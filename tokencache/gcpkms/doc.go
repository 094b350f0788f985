/*
Package gcpkms keeps the data keys that logins are sealed with under a key in Google Cloud KMS.
Whoever copies the store can read no login: the key never leaves Cloud KMS, which decides, and
writes down in its audit logs, who unwraps.

	client, err := google.DefaultClient(ctx, "https://www.googleapis.com/auth/cloudkms")
	...
	wrapper, err := gcpkms.New(gcpkms.Config{
		Client: client,
		Key:    "projects/my-project/locations/europe-west3/keyRings/app/cryptoKeys/logins",
	})
	...
	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})

Two methods of the REST API are all that is used, so the package needs no client library, and
google.DefaultClient of golang.org/x/oauth2/google may be any other client that sends
credentials. What Google asks its clients to verify, the checksums of what was sent and what
came back, is verified.

# The key and the rights

	gcloud kms keyrings create app --location europe-west3
	gcloud kms keys create logins --keyring app --location europe-west3 --purpose encryption \
		--rotation-period 90d --next-rotation-time +90d
	gcloud kms keys add-iam-policy-binding logins --keyring app --location europe-west3 \
		--member serviceAccount:app@my-project.iam.gserviceaccount.com \
		--role roles/cloudkms.cryptoKeyEncrypterDecrypter

That role, on this one key, is all that the service needs. A program that only reads logins
needs roles/cloudkms.cryptoKeyDecrypter. Audit logs of each use have to be turned on ("Data
Access").

# How often Cloud KMS is asked

Once when a login is first saved, once when a process first loads it, and for logins in use
again after half of Envelope.MaxAge; never for a refresh. A call that finds the service
overloaded, or loses the connection, is sent three times at most, within the five seconds that
the cache gives it.

# Rotation

Cloud KMS gives the key a new primary version by itself. New data keys are wrapped with it, and
every older version still unwraps. [tokencache.Cache.Rekey] wraps the data keys of all records
with the primary version, and opens none of them. Call it some hours after a rotation, because
for so long Cloud KMS may still use the version before. Then the old version can be disabled,
and later destroyed:

	gcloud kms keys versions disable 1 --key logins --keyring app --location europe-west3

To change to another key, put the old name into [Config.OldKeys].

# If the key is not there

If Cloud KMS cannot be reached, limits the rate, denies access, or the version is disabled or
destroyed, errors are [tokencache.ErrUnavailable] and say what to do. Nothing is deleted, logins
in memory go on, and what is stored opens again when the version does. Only what the key itself
refuses as damaged is [tokencache.ErrCorrupt]. A version that is to be destroyed can be restored
for 30 days, by default. After that nobody can open what it has wrapped, and users have to log
in again.

# What is tested

Google offers no server to test against, so the tests have one that takes exactly what the REST
reference documents. It shows what this package does, not what Google does.
*/
package gcpkms
