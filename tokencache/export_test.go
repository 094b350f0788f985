package tokencache

import "context"

// QuickPassphraseFile is PassphraseFile with so few iterations that tests need not
// wait for them.
func QuickPassphraseFile(path string, passphrase func(ctx context.Context) (Secret, error)) KeySource {
	return newKeyFile(path, &passphraseKeys{ask: passphrase, iterations: 1000})
}
