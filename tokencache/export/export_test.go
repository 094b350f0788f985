package export_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
)

const goldens = "../../testdata/exports/v1/"

var update = flag.Bool("update", false, "write a golden file that is not there yet")

// What one version has written, every later one reads. Files are only ever added.
func TestGoldenExport(t *testing.T) {
	public, private := goldenKeys(t)
	want := records(3)
	file := goldens + "three.export"
	if _, err := os.Stat(file); err != nil && *update {
		if err := os.WriteFile(file, written(t, public, want...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(golden, private); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
}

// Logins get from one cache to another with all that belongs to them, and a file has no secret
// in the clear.
func TestExportAndImport(t *testing.T) {
	public, private := newKeys(t)
	old, fresh := memoryCache(t), memoryCache(t)
	for _, r := range records(50) {
		if _, err := old.Save(t.Context(), r.Key, r, ""); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if n, err := export.Write(&file, public, old.List(t.Context())); n != 50 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	for _, secret := range []string{"refresh token", "access token", "account"} {
		if bytes.Contains(file.Bytes(), []byte(secret)) {
			t.Errorf("the file shows %q", secret)
		}
	}
	imported, kept, err := fresh.Import(t.Context(), export.Read(&file, private))
	if imported != 50 || kept != 0 || err != nil {
		t.Fatalf("imported %d, kept %d, %v", imported, kept, err)
	}
	for _, want := range records(50) {
		if got, _, err := fresh.Load(t.Context(), want.Key); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("imported %v, %v; want %v", got, err, want)
		}
	}
}

// Whatever happens to a file, what is read is what was written, in this order; and a file that
// is not read to its end says so.
func TestDamagedExport(t *testing.T) {
	public, private := newKeys(t)
	want := records(3)
	whole := written(t, public, want...)
	frames := split(t, whole)
	other := split(t, written(t, public, want...))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name string
		file []byte
		good int // so many logins are read
		says string
	}{
		{"empty", nil, 0, "no export"},
		{"something else", []byte(`{"logins":[]}`), 0, "no export"},
		{"a newer version", append([]byte("stayauth export v2\n"), whole[19:]...), 0, "newer version"},
		{"the header only", frames[0], 0, "ends before its end"},
		{"cut in the header", whole[:40], 0, "cut short"},
		{"without its end", join(frames[:4]...), 3, "after 3 logins"},
		{"cut in a frame", whole[:len(join(frames[:2]...))+9], 1, "ends before its end"},
		{"one login is missing", join(frames[0], frames[1], frames[3], frames[4]), 1, "damaged"},
		{"two are in another order", join(frames[0], frames[2], frames[1], frames[3], frames[4]), 0, "damaged"},
		{"one is there twice", join(frames[0], frames[1], frames[1], frames[2], frames[3], frames[4]), 1, "damaged"},
		{"one of another export", join(frames[0], frames[1], other[2], frames[3], frames[4]), 1, "damaged"},
		{"the end of another export", join(frames[0], frames[1], other[4]), 1, "damaged"},
		{"the header of another export", join(other[0], join(frames[1:]...)), 0, "damaged"},
		{"two exports", join(whole, whole), 3, "follows the end"},
		{"a login declared to be the end", join(frames[0], frames[1], flip(frames[2], 0, 'r'^'e')), 1, "damaged"},
		{"an end declared to be a login", join(frames[0], frames[1], frames[2], frames[3], flip(frames[4], 0, 'r'^'e')), 3, "damaged"},
		{"a length beyond all measure", join(frames[0], flip(frames[1], 1, 0xff)), 0, "damaged"},
		{"a length beyond the file", join(frames[0], flip(frames[1], 2, 0x7f)), 0, "ends before its end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(tt.file, private)
			if len(got) != tt.good || !reflect.DeepEqual(got, want[:tt.good:tt.good]) && tt.good > 0 {
				t.Errorf("read %d logins, want the first %d", len(got), tt.good)
			}
			if !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
			cache := memoryCache(t)
			if n, _, err := cache.Import(t.Context(), export.Read(bytes.NewReader(tt.file), private)); n != tt.good || !errors.Is(err, tokencache.ErrCorrupt) {
				t.Errorf("imported %d, %v", n, err)
			}
		})
	}
	for i := range whole { // any single bit
		got, err := read(flip(whole, i, 1<<(i%8)), private)
		if err == nil || len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("with byte %d changed, %d logins are read, %v", i, len(got), err)
		}
	}
}

// A copy that nobody has adopted stays one in an export; what is at home, or was adopted, is at
// home where it is imported.
func TestExportOfCopies(t *testing.T) {
	public, private := newKeys(t)
	all := records(5)
	for i, from := range []*tokencache.Copy{nil, {ID: "a"}, {Name: "b"}, {ID: "c", Name: "c"}, {ID: "d", AdoptedAt: time.Now()}} {
		all[i].Copy = from
	}
	got, err := read(written(t, public, all...), private)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if r.IsCopy() != all[i].IsCopy() || r.IsCopy() && *r.Copy != *all[i].Copy {
			t.Errorf("%+v has become %+v", all[i].Copy, r.Copy)
		}
	}
}

// A login that is bound to a key keeps it on its way to another cache, where it is worth nothing
// without (C59), and the file does not show it.
func TestExportOfBoundLogins(t *testing.T) {
	public, private := newKeys(t)
	all := records(3)
	all[0].Bind("private key", "thumbprint")
	all[1].Bind("", "thumbprint of a key that is elsewhere")
	file := written(t, public, all...)
	if bytes.Contains(file, []byte("private key")) || bytes.Contains(file, []byte("thumbprint")) {
		t.Error("the file shows the key")
	}
	fresh := memoryCache(t)
	if n, kept, err := fresh.Import(t.Context(), export.Read(bytes.NewReader(file), private)); n != 3 || kept != 0 || err != nil {
		t.Fatalf("imported %d, kept %d, %v", n, kept, err)
	}
	for _, want := range all {
		if got, _, err := fresh.Load(t.Context(), want.Key); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("imported %v, %v; want %v", got, err, want)
		}
	}
}

// The wrong key is told apart from a damaged file.
func TestReadWithAnotherKey(t *testing.T) {
	public, _ := newKeys(t)
	_, private := newKeys(t)
	got, err := read(written(t, public, records(1)...), private)
	if got != nil || !errors.Is(err, tokencache.ErrCorrupt) || !strings.Contains(err.Error(), "sealed to another key: its id is ") {
		t.Errorf("read %v, %v", got, err)
	}
}

// A network or a disk that fails is not taken for a damaged file.
func TestReadFailing(t *testing.T) {
	public, private := newKeys(t)
	broken := errors.New("broken pipe")
	file := written(t, public, records(2)...)
	for _, n := range []int{0, 30, 60, 120, len(file) - 1} {
		err := last(export.Read(failing(file[:n], broken), private))
		if !errors.Is(err, broken) || errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// A record that cannot be read is left out and told; any other error leaves a file that says it
// is not whole.
func TestWriteSomeOfTheRecords(t *testing.T) {
	public, private := newKeys(t)
	for _, tt := range []struct {
		err   error
		whole bool
	}{{tokencache.ErrCorrupt, true}, {tokencache.ErrUnavailable, false}} {
		var file bytes.Buffer
		n, err := export.Write(&file, public, func(yield func(*tokencache.Record, error) bool) {
			_ = yield(records(1)[0], nil) && yield(nil, fmt.Errorf("entry 7: %w", tt.err)) && yield(records(2)[1], nil)
		})
		if want := map[bool]int{true: 2, false: 1}[tt.whole]; n != want || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "entry 7") {
			t.Errorf("%v: wrote %d, %v", tt.err, n, err)
		}
		if _, err := read(file.Bytes(), private); (err == nil) != tt.whole {
			t.Errorf("%v: the file reads as %v", tt.err, err)
		}
	}
}

// The keys are those of the two commands in the documentation, and a mistake with them says what
// to do, and nothing of what is in the file.
func TestKeysOfOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		realparts.Require(t, "openssl", err)
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	file := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "private.pem")
	run("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
	public, err := export.ParsePublicKey(file("public.pem"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := export.ParsePrivateKey(file("private.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(written(t, public, records(2)...), private); err != nil || len(got) != 2 {
		t.Errorf("read %d, %v", len(got), err)
	}
	run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1.pem")
	run("pkey", "-in", "private.pem", "-aes256", "-passout", "pass:x", "-out", "encrypted.pem")
	run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem")
	run("pkey", "-in", "rsa.pem", "-pubout", "-out", "rsa_public.pem")
	parsePublic := func(b []byte) error { _, err := export.ParsePublicKey(b); return err }
	parsePrivate := func(b []byte) error { _, err := export.ParsePrivateKey(b); return err }
	for _, tt := range []struct {
		name, file string
		parse      func([]byte) error
		says       string
	}{
		{"the private key instead of the public one", "private.pem", parsePublic, "-pubout"},
		{"the public key instead of the private one", "public.pem", parsePrivate, "the private one is needed"},
		{"a key in the older form", "sec1.pem", parsePrivate, "openssl pkey converts it"},
		{"an encrypted key", "encrypted.pem", parsePrivate, "decrypt it first, with openssl pkey"},
		{"a private key that cannot be agreed with", "rsa.pem", parsePrivate, "P-256"},
		{"a public key that cannot be agreed with", "rsa_public.pem", parsePublic, "P-256"},
	} {
		if err := tt.parse(file(tt.file)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		} else if body := strings.Split(string(file(tt.file)), "\n")[1]; strings.Contains(err.Error(), body) {
			t.Errorf("%s: the error quotes the file", tt.name)
		}
	}
	for _, b := range []string{"", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if parsePublic([]byte(b)) == nil || parsePrivate([]byte(b)) == nil {
			t.Errorf("%q is accepted as a key", b)
		}
	}
}

// However many logins there are, an export and an import hold one of them at a time.
func TestExportInConstantMemory(t *testing.T) {
	public, private := newKeys(t)
	measure := func(n int) uint64 {
		r, w := io.Pipe()
		go func() {
			_, err := export.Write(w, public, many(n))
			w.CloseWithError(err)
		}()
		var highest uint64
		got := 0
		for _, err := range export.Read(r, private) {
			if err != nil {
				t.Fatal(err)
			}
			if got++; got%(n/4) == 0 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				highest = max(highest, m.HeapAlloc)
			}
		}
		if got != n {
			t.Errorf("read %d of %d", got, n)
		}
		return highest
	}
	few := measure(100)
	if more := measure(3000); more > few+1<<20 {
		t.Errorf("3000 logins take %d bytes of memory, and 100 take %d", more, few)
	}
}

// No bytes crash a reader, make it wait, or bring a login that nobody wrote.
func FuzzRead(f *testing.F) {
	public, private := goldenKeys(f)
	golden, err := os.ReadFile(goldens + "three.export")
	if err != nil {
		f.Fatal(err)
	}
	want := records(3)
	f.Add(golden)
	f.Add(golden[:len(golden)-1])
	f.Add(golden[:100])
	f.Add(written(f, public))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := read(file, private)
		if len(got) > 0 && !reflect.DeepEqual(got, want[:min(len(got), 3)]) && bytes.HasPrefix(file, golden[:96]) {
			t.Errorf("read %v", got)
		}
		if err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("error %v", err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	public, _ := newKeys(b)
	for b.Loop() {
		if _, err := export.Write(io.Discard, public, many(1000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	public, private := newKeys(b)
	var file bytes.Buffer
	if _, err := export.Write(&file, public, many(1000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := last(export.Read(bytes.NewReader(file.Bytes()), private)); err != nil {
			b.Fatal(err)
		}
	}
}
