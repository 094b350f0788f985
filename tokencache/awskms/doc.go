/*
Package awskms keeps the data keys that logins are sealed with under a key in AWS KMS. Whoever
copies the store can read no login: the key never leaves KMS, which decides, and writes down in
CloudTrail, who unwraps.

	cfg, err := config.LoadDefaultConfig(ctx)
	...
	wrapper, err := awskms.New(awskms.Config{Client: kms.NewFromConfig(cfg), Key: "alias/logins"})
	...
	cache, err := tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: wrapper})

# The key and the rights

	aws kms create-key --description "logins"
	aws kms create-alias --alias-name alias/logins --target-key-id KEY

The key is a symmetric encryption key, the default. The role of the service needs no more than

	{
	  "Effect": "Allow",
	  "Action": ["kms:Encrypt", "kms:Decrypt"],
	  "Resource": "arn:aws:kms:eu-west-1:111122223333:key/KEY",
	  "Condition": {"StringEquals": {"kms:EncryptionContext:stayauth": "data key v1"}}
	}

The condition is optional: every call has this encryption context, so with it the role can
unwrap nothing else that the key protects. The key policy must leave such decisions to IAM, as
the default one does. A program that only reads logins needs kms:Decrypt alone.

A wrapped key is stored with the ARN of its key. Each Decrypt names a key of [Config], so KMS refuses what any other key has wrapped, even if the
role may use that one: whoever can write to the store cannot choose the key.

# How often KMS is asked

Once when a login is first saved, once when a process first loads it, and for logins in use
again after half of Envelope.MaxAge; never for a refresh. Calls have to end within the five
seconds that the cache gives them, with the retries of the client. A service that is started
with many logins in use reads them one by one as requests come; its quota is the
"cryptographic operations (symmetric) request rate" of the account.

# Rotation

KMS rotates the material of a key by itself if it is told to, and needs nobody here:

	aws kms enable-key-rotation --key-id KEY

The key stays the same, what older material has wrapped still unwraps, and nothing is wrapped
anew, because material is not destroyed without the key.

To change to another key, put the ARN of the present one into [Config.OldKeys] wherever the
program runs, and let the role use both; point the alias at the new key; call
[tokencache.Cache.Rekey], which wraps the data keys of all records anew and opens none of them.
Then the old key can be disabled, and later deleted.

# Two Regions

The replicas of a multi-Region key are one key here. Make an alias of the same name in each
Region, give each process a client of its own Region, and let the role use the key in both.

# If the key is not there

If KMS cannot be reached, throttles, denies access, or the key is disabled or about to be
deleted, errors are [tokencache.ErrUnavailable] and say what to do. Nothing is deleted, logins in
memory go on, and what is stored opens again when the key can be used. Only what the key itself
refuses as damaged, or as another key's, is [tokencache.ErrCorrupt]. When a key has been
deleted, at the end of its waiting period, nobody can open what it has wrapped, and users have
to log in again.
*/
package awskms
