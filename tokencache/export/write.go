package export

import (
	"bufio"
	"context"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/internal/failures"
)

// Write writes the records that a Cache lists to w, sealed to a public key, and returns how
// many. Records that cannot be read (ErrCorrupt) are left out, and the error says which. After
// any other error the export has no end, and Read says so.
func Write(w io.Writer, to hpke.PublicKey, records iter.Seq2[*tokencache.Record, error]) (n int, err error) {
	e := new(entry)
	cache, err := tokencache.New(e, nil)
	if err != nil {
		return 0, err
	}
	buffered := bufio.NewWriter(w)
	out, err := newWriter(buffered, to)
	if err != nil {
		return 0, err
	}
	var unread failures.Some
	for r, err := range records {
		if err == nil {
			_, err = cache.Save(context.Background(), r.Key, r, "")
		}
		if err == nil {
			err = out.write(kindEntry, append(append([]byte{byte(len(e.name))}, e.name...), e.data...))
		}
		switch {
		case err == nil:
			n++
		case errors.Is(err, tokencache.ErrCorrupt):
			unread.Add(err)
		default:
			return n, errors.Join(err, unread.Err())
		}
	}
	if err := out.write(kindEnd, nil); err != nil {
		return n, err
	}
	if err := buffered.Flush(); err != nil {
		return n, err
	}
	return n, unread.Err()
}

// A writer writes the frames of an export.
type writer struct {
	w      io.Writer
	sender *hpke.Sender
}

func newWriter(w io.Writer, to hpke.PublicKey) (*writer, error) {
	h := header(to)
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), h)
	if err != nil {
		return nil, fmt.Errorf("export: the public key cannot be used: %w", err)
	}
	h = binary.BigEndian.AppendUint16(h, uint16(len(enc)))
	_, err = w.Write(append(h, enc...))
	return &writer{w: w, sender: sender}, err
}

// sealTagSize is by how much AES-GCM makes a frame longer.
const sealTagSize = 16

func (w *writer) write(kind byte, plain []byte) error {
	size := len(plain) + sealTagSize
	if size > maxFrame {
		return fmt.Errorf("export: an entry has %d bytes, and the most is %d", len(plain), maxFrame)
	}
	h := frameHeader(kind, size)
	sealed, err := w.sender.Seal(h, plain)
	if err == nil {
		_, err = w.w.Write(append(h, sealed...))
	}
	return err
}
