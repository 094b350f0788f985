// Package smallfile reads files that people name in a configuration.
package smallfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Max is the size in bytes of the largest file: a key with a chain of certificates, or what a
// provider's console makes, is far smaller.
const Max = 1 << 20

// Read returns what is in a regular file. Its errors do not say which file it is.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // Opening a pipe may wait for ever.
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, cause(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, Max+1))
	switch {
	case err != nil:
		return nil, cause(err)
	case len(data) > Max:
		return nil, errors.New("it is too long")
	}
	return data, nil
}

// cause returns an error without the name of the file, which the caller adds.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
