package tokencache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"unique"
)

// A sealed entry is
//
//	tag (19 bytes) | key id (8) | nonce (12) | ciphertext | AES-GCM tag (16)
//
// Each entry has an AES-256 key of its own, derived from the data key and the name of the
// entry. The tag, the key id and the name are authenticated too, so no entry can be passed off
// as another.
//
// If the data key is the entry's own, its wrapped form stands before that:
//
//	tag (22) | length (2) | WrappedKey.KeyID | length (2) | WrappedKey.Data | sealed entry
//
// This part is not authenticated, so that the data key can be wrapped anew by somebody who
// does not open the entry. The wrapped key of another entry does no harm there: the data key
// does not have the id that the sealed entry names.
const (
	sealTag      = "stayauth sealed v1\n"
	envelopeTag  = "stayauth enveloped v1\n"
	sealIDSize   = 8
	sealOverhead = len(sealTag) + sealIDSize + 12 + 16
	keySize      = 32
)

// errUnknownKey is the ErrCorrupt of an entry that names a key which is not available.
var errUnknownKey = fmt.Errorf("%w", ErrCorrupt)

// A dataKey is a key that seals entries, with the id by which they name it.
type dataKey struct {
	id     string
	secret hidden[[]byte]
	parent hidden[[]byte] // of the keys of the entries: the secret, extracted (RFC 5869 section 2.2)
}

func newDataKey(secret []byte) (dataKey, error) {
	if len(secret) != keySize {
		return dataKey{}, fmt.Errorf("a sealing key has %d bytes, want %d", len(secret), keySize)
	}
	parent, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		return dataKey{}, err
	}
	// The id reveals nothing about the key: it is derived like the entry keys, but
	// separately.
	id, err := hkdf.Expand(sha256.New, parent, "stayauth key id v1", sealIDSize)
	if err != nil {
		return dataKey{}, err
	}
	return dataKey{string(id), hide(secret), hide(parent)}, nil
}

func (k dataKey) entryCipher(name string) (cipher.AEAD, error) {
	entryKey, err := hkdf.Expand(sha256.New, k.parent(), "stayauth entry key v1\n"+name, keySize)
	if err != nil {
		return nil, err
	}
	return newGCM(entryKey)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts the entry called name.
func (k dataKey) seal(name string, plain []byte) ([]byte, error) {
	aead, err := k.entryCipher(name)
	if err != nil {
		return nil, err
	}
	const header = len(sealTag) + sealIDSize
	authenticated := []byte(sealTag + k.id + name)
	sealed := append(make([]byte, 0, len(plain)+sealOverhead), authenticated[:header]...)
	return aead.Seal(sealed, nil, plain, authenticated), nil
}

// sealedWith returns the id of the key that an entry was sealed with.
func sealedWith(name string, sealed []byte) (id string, err error) {
	if !bytes.HasPrefix(sealed, []byte(sealTag)) {
		return "", fmt.Errorf("%w: entry %q is not sealed by this version of stayauth", ErrCorrupt, name)
	}
	if len(sealed) < sealOverhead {
		return "", fmt.Errorf("%w: entry %q is cut short", ErrCorrupt, name)
	}
	return string(sealed[len(sealTag):][:sealIDSize]), nil
}

// unseal decrypts the entry called name with the key that it names.
func unseal(keys []dataKey, name string, sealed []byte) ([]byte, error) {
	id, err := sealedWith(name, sealed)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.id != id {
			continue
		}
		aead, err := k.entryCipher(name)
		if err != nil {
			return nil, err
		}
		header := len(sealTag) + sealIDSize
		plain, err := aead.Open(nil, nil, sealed[header:], append(sealed[:header:header], name...))
		if err != nil {
			return nil, fmt.Errorf("%w: entry %q fails authentication: it was damaged or moved here from another name", ErrCorrupt, name)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w: entry %q is sealed with another key (id %s): bring that key back, or delete the entry and log in again",
		errUnknownKey, name, hex.EncodeToString([]byte(id)))
}

// envelop puts the wrapped key of a sealed entry before it.
func envelop(w WrappedKey, sealed []byte) []byte {
	data := make([]byte, 0, envelopeSize(w)+len(sealed))
	data = append(data, envelopeTag...)
	for _, part := range []string{w.KeyID, string(w.Data)} {
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(part))), part...)
	}
	return append(data, sealed...)
}

func envelopeSize(w WrappedKey) int { return len(envelopeTag) + 4 + len(w.KeyID) + len(w.Data) }

// isEnveloped reports whether a wrapped key stands before the sealed entry.
func isEnveloped(data []byte) bool { return bytes.HasPrefix(data, []byte(envelopeTag)) }

// openEnvelope returns the parts of an entry that isEnveloped, and the id of its data key. The
// wrapped key shares no memory with data.
func openEnvelope(name string, data []byte) (w WrappedKey, sealed []byte, keyID string, err error) {
	rest := data[len(envelopeTag):]
	part := func(most int) (part []byte, ok bool) {
		if len(rest) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; n > most || n > len(rest) {
			return nil, false
		}
		part, rest = rest[:n:n], rest[n:]
		return part, true
	}
	id, ok := part(maxKeyID)
	if ok {
		w.KeyID = unique.Make(string(id)).Value() // one string for many entries
		w.Data, ok = part(maxWrapped)
		w.Data = bytes.Clone(w.Data)
	}
	if !ok || len(w.Data) == 0 {
		return WrappedKey{}, nil, "", fmt.Errorf("%w: entry %q has a damaged header", ErrCorrupt, name)
	}
	keyID, err = sealedWith(name, rest)
	return w, rest, keyID, err
}
