// Package export moves logins from one token cache to another, and keeps copies of them, in a
// file that only the holder of a private key can read.
//
// The machine that writes exports needs only the public key:
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem
//	openssl pkey -in private.pem -pubout -out public.pem
//
// Then, with these keys as [ParsePublicKey] and [ParsePrivateKey] return them:
//
//	n, err := export.Write(file, public, cache.List(ctx))
//	imported, kept, err := other.Import(ctx, export.Read(file, private))
//
// # Moving logins
//
// A provider that rotates refresh tokens accepts each of them once, so of two copies of a login
// that are both in use, the one that refreshes second presents a spent token, and a strict
// provider then ends the login, for both. To move logins, stop the programs that use the old
// cache, export, import, and start the programs on the new cache. Then remove the old one.
//
// # Copies
//
// For the same reason a copy ages: once a login has been refreshed, a strict provider accepts
// the refresh token in the copy no more. A provider that does not rotate, or accepts a spent
// token for a while, leaves more of it. A copy may also bring back a login that has been ended
// since; Logout has revoked its tokens, if the provider can do that.
//
// # Guaranteed
//
//   - A login is read only if the file up to it is as it was written, in content and order. One
//     that was changed, put together from others, or is not whole is an error, which says how
//     many logins came before it.
//   - The memory that is needed does not depend on the number of logins.
//   - Every later version of this module reads what this one writes.
//   - With a key on P-256, as above, it also runs with GODEBUG=fips140=only.
//
// # Not guaranteed
//
//   - Who wrote a file: everybody who has the public key can make one. Import only what came
//     over a channel that nobody else can write to.
//   - Its length tells how many logins there are, and of what length.
package export

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"

	"github.com/stayauth/stayauth/tokencache"
)

// An export is
//
//	tag (19 bytes) | KEM (2) | key id (8) | length (2) | encapsulated key
//
// and then one frame for each entry, and one for the end. A frame is
//
//	kind (1) | length (4) | ciphertext
//
// Numbers are big-endian. All is sealed in one HPKE context (RFC 9180, base mode) with
// HKDF-SHA256 and AES-256-GCM, which numbers the frames: none can be left out, repeated or
// moved. The header up to the key id is the info of the context, and the first five bytes of a
// frame are authenticated with it. Inside, an entry is the length of its name (1), the name,
// and what a store without keys would hold under it.
const (
	tag        = "stayauth export v1\n"
	keyIDSize  = 8
	headerSize = len(tag) + 2 + keyIDSize

	frameHeaderSize = 5
	kindEntry       = 'r'
	kindEnd         = 'e'
)

// maxFrame is more than any entry of a login needs, and no burden for the memory.
const maxFrame = 16 << 20

// header returns the header of an export that is sealed to a key.
func header(to hpke.PublicKey) []byte {
	h := binary.BigEndian.AppendUint16([]byte(tag), to.KEM().ID())
	sum := sha256.Sum256(to.Bytes())
	return append(h, sum[:keyIDSize]...)
}

func frameHeader(kind byte, size int) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, uint32(size))
}

// An entry is a Store of a single entry: the one that is being written or read. With it a Cache
// turns a record into what it stores, and back.
type entry struct {
	name string
	data []byte
}

func (e *entry) Load(_ context.Context, name string) ([]byte, tokencache.Version, error) {
	if name != e.name {
		return nil, "", tokencache.ErrNotFound
	}
	return e.data, "1", nil
}

func (e *entry) Save(_ context.Context, name string, data []byte, _ tokencache.Version) (tokencache.Version, error) {
	e.name, e.data = name, bytes.Clone(data)
	return "1", nil
}

func (e *entry) Delete(context.Context, string, tokencache.Version) error {
	return errors.ErrUnsupported
}

func (e *entry) Lock(context.Context, string) (func() error, error) {
	return nil, errors.ErrUnsupported
}

var _ tokencache.Lister = (*entry)(nil)

func (e *entry) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield(e.name, nil) }
}

func (e *entry) Confidential() bool { return true } // It is in memory.

// Place is another one than that of any store, so that what was a copy before it was exported
// is still one when it is read.
func (e *entry) Place(context.Context) (id, name string, err error) { return "export", "export", nil }
