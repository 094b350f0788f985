package tokencache

import "context"

// QuickPassphraseFile is PassphraseFile with so few iterations that tests need not
// wait for them.
func QuickPassphraseFile(path string, passphrase func(ctx context.Context) (Secret, error)) KeySource {
	return newKeyFile(path, &passphraseKeys{ask: passphrase, iterations: 1000})
}

// WithoutSpare returns d as it was opened, without the files that it keeps for a save.
func WithoutSpare(d *Dir) *Dir { return &Dir{path: d.path, root: d.root} }

// FullRecord is the record of the goldens.
func FullRecord() *Record { return fullRecord() }

// TakeApart takes an enveloped entry apart and puts it together again.
func TakeApart(data []byte) (w WrappedKey, sealed, again []byte, err error) {
	w, sealed, _, err = openEnvelope("name", data)
	return w, sealed, envelop(w, sealed), err
}
