package export

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/stayauth/stayauth/tokencache"
)

// Read returns the records of an export, for Cache.Import or to look at them. Each is as it was
// written; where the file is damaged, incomplete or sealed to another key, the last of them is
// followed by an error that wraps ErrCorrupt. It can be read once.
func Read(r io.Reader, key hpke.PrivateKey) iter.Seq2[*tokencache.Record, error] {
	return func(yield func(*tokencache.Record, error) bool) {
		e := new(entry)
		cache, err := tokencache.New(e, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		in, err := newReader(bufio.NewReader(r), key)
		for n := 0; err == nil; n++ {
			var plain []byte
			if plain, err = in.next(); err == io.EOF {
				return
			}
			if err == nil {
				err = e.set(plain)
			}
			if err != nil {
				err = fmt.Errorf("export: after %d logins: %w", n, err)
				break
			}
			for rec, err := range cache.List(context.Background()) {
				if !yield(rec, err) {
					return
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// set makes e the entry that a frame holds.
func (e *entry) set(plain []byte) error {
	if len(plain) > 0 {
		if size := int(plain[0]); size > 0 && size < len(plain) {
			e.name, e.data = string(plain[1:1+size]), plain[1+size:]
			return nil
		}
	}
	return fmt.Errorf("%w: an entry has no name", tokencache.ErrCorrupt)
}

// A reader reads the frames of an export.
type reader struct {
	r         *bufio.Reader
	recipient *hpke.Recipient
	buf       bytes.Buffer
}

func newReader(r *bufio.Reader, key hpke.PrivateKey) (*reader, error) {
	bad := func(what string) error { return fmt.Errorf("%w: export: %s", tokencache.ErrCorrupt, what) }
	in := &reader{r: r}
	h, err := in.read(headerSize)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	want := header(key.PublicKey())
	switch {
	case !bytes.HasPrefix(h, []byte(tag)):
		return nil, bad("this is no export, or one of a newer version of stayauth")
	case err != nil:
		return nil, bad("it is cut short")
	case !bytes.Equal(h[:headerSize-keyIDSize], want[:headerSize-keyIDSize]):
		return nil, bad("it is sealed to a key of another kind than this one")
	case !bytes.Equal(h, want):
		return nil, bad("it is sealed to another key: its id is " + hex.EncodeToString(h[headerSize-keyIDSize:]) +
			", and that of this one " + hex.EncodeToString(want[headerSize-keyIDSize:]))
	}
	enc, err := in.read(2)
	if err == nil {
		enc, err = in.read(int(binary.BigEndian.Uint16(enc)))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, bad("it is cut short")
	}
	if err != nil {
		return nil, err
	}
	in.recipient, err = hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), want)
	if err != nil {
		return nil, bad("its header is damaged")
	}
	return in, nil
}

// next returns the content of the next entry, and io.EOF at the end.
func (in *reader) next() ([]byte, error) {
	h, err := in.read(frameHeaderSize)
	if err != nil {
		return nil, cut(err)
	}
	h = bytes.Clone(h)
	size := binary.BigEndian.Uint32(h[1:])
	if size > maxFrame {
		return nil, fmt.Errorf("%w: the export is damaged", tokencache.ErrCorrupt)
	}
	sealed, err := in.read(int(size))
	if err != nil {
		return nil, cut(err)
	}
	plain, err := in.recipient.Open(h, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: the export is damaged, or put together from others", tokencache.ErrCorrupt)
	}
	switch h[0] {
	case kindEntry:
		return plain, nil
	case kindEnd:
		if _, err := in.r.ReadByte(); err != io.EOF {
			return nil, fmt.Errorf("%w: something follows the end of the export", tokencache.ErrCorrupt)
		}
		return nil, io.EOF
	}
	return nil, fmt.Errorf("%w: a newer version of stayauth has written the export: update the program", tokencache.ErrCorrupt)
}

// read reads n bytes, which are good until the next call. What is not there takes no memory,
// whatever length a damaged file claims.
func (in *reader) read(n int) ([]byte, error) {
	in.buf.Reset()
	_, err := io.CopyN(&in.buf, in.r, int64(n))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return in.buf.Bytes(), err
}

// cut describes an error of read.
func cut(err error) error {
	if err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: the export ends before its end: it was not written to the end, or not copied whole", tokencache.ErrCorrupt)
	}
	return err
}
