package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Records under testdata/records must load for ever, and lose nothing when they
// are saved again. Files are only ever added.
func TestGoldenRecords(t *testing.T) {
	files, err := filepath.Glob("../testdata/records/v*/*.json")
	if err != nil || len(files) < 16 {
		t.Fatalf("found %d golden records, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := decodeRecord(golden)
			if err != nil {
				t.Fatal(err)
			}
			again, err := encodeRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			var a, b any
			if json.Unmarshal(golden, &a) != nil || json.Unmarshal(again, &b) != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("saved again as\n%s\nfrom\n%s", again, golden)
			}
		})
	}
}

// The goldens with every member of their time also say what the members mean.
func TestGoldenFullRecord(t *testing.T) {
	second, third, fourth := fullRecord(), fullRecord(), fullRecord()
	second.For = "resource=https%3A%2F%2Fapi.example"
	third.For = second.For
	third.Claims = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`
	third.Tombstone.Claims = third.Claims
	fourth.For, fourth.Claims, fourth.Tombstone.Claims = third.For, third.Claims, third.Claims
	fourth.PutBackAt = third.ObtainedAt.Add(-2 * time.Minute)
	fifth := fourth.Clone()
	fifth.InterruptedAt = third.ObtainedAt.Add(-3 * time.Minute)
	sixth := fifth.Clone()
	sixth.Copy = &Copy{"rU9ydpZ2E3RyqGbk", "production", third.ObtainedAt.Add(-4 * time.Minute)}
	seventh := sixth.Clone()
	seventh.EndingAt = third.ObtainedAt.Add(7 * 24 * time.Hour)
	bound := seventh.Clone()
	bound.Bind("fake-private-key", "fake-thumbprint")
	bound.TokenType = "DPoP"
	elsewhere := fullRecord()
	elsewhere.Bind("", "fake-thumbprint")
	elsewhere.TokenType = "DPoP"
	targets := bound.Clone()
	targets.Select("resource=https%3A%2F%2Fmail.example")
	targets.AccessToken, targets.TokenType, targets.Scope = "fake-mail-token", "DPoP", "mail"
	targets.ObtainedAt, targets.Expiry = third.ObtainedAt.Add(time.Minute), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)
	targets.Select("scope=files")
	targets.Tombstone = &Tombstone{At: third.ObtainedAt, Code: "consent_required", Target: "scope=files"}
	targets.Select("")
	targets.Tombstone = bound.Tombstone
	var got *Record
	for _, full := range []struct {
		file string
		want *Record
	}{{"full.json", fullRecord()}, {"full_2.json", second}, {"full_3.json", third}, {"full_4.json", fourth}, {"full_5.json", fifth}, {"full_6.json", sixth}, {"full_7.json", seventh},
		{"../v2/key_elsewhere.json", elsewhere}, {"../v2/full.json", bound}, {"../v2/full_2.json", targets}} {
		golden, err := os.ReadFile("../testdata/records/v1/" + full.file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = decodeRecord(golden); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, full.want) {
			t.Errorf("%s: decoded %#v, want %#v", full.file, got, full.want)
		}
	}
	// Every field is in the newest golden, but for the place, which is that of the store: a new one
	// needs a new golden.
	v := reflect.ValueOf(*got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() && v.Type().Field(i).Name != "place" {
			t.Errorf("the newest golden has no %s", v.Type().Field(i).Name)
		}
	}
}

func fullRecord() *Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	return &Record{
		Key:           Key{Issuer: "https://issuer.example", ClientID: "client-1", Account: "ann@example.com", Audience: "https://api.example"},
		TokenURL:      "https://issuer.example/token",
		AccessToken:   "fake-access-token",
		TokenType:     "Bearer",
		RefreshToken:  "fake-refresh-token",
		IDToken:       "fake-id-token",
		Scope:         "openid offline_access",
		AuthorizedAt:  at.Add(-24 * time.Hour),
		ObtainedAt:    at,
		Expiry:        at.Add(time.Hour),
		RefreshAt:     at.Add(30 * time.Minute),
		RefreshExpiry: at.Add(90 * 24 * time.Hour),
		LoginID:       "fake-grant",
		Generation:    18446744073709551615,
		Attempt:       &Attempt{At: at, PID: 4242},
		ForcedAt:      at.Add(-time.Minute),
		Tombstone:     &Tombstone{At: at, Code: "invalid_grant", Description: "Token has been revoked.", Interrupted: true},
		Extra:         map[string]Secret{"instance_url": "https://instance.example", "nested": `{"a":[1,2]}`},
	}
}

func goldenSealed(t testing.TB) (name string, key dataKey, sealed []byte) {
	sealed, err := os.ReadFile("../testdata/records/v1/full.sealed")
	if err != nil {
		t.Fatal(err)
	}
	key, err = newDataKey([]byte("golden key: thirty-two bytes !!!"))
	if err != nil {
		t.Fatal(err)
	}
	return fullRecord().Key.Name(), key, sealed
}

func TestGoldenSealedEntry(t *testing.T) {
	name, key, sealed := goldenSealed(t)
	plain, err := unseal([]dataKey{key}, name, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := decodeRecord(plain); err != nil || !reflect.DeepEqual(r, fullRecord()) {
		t.Errorf("opened %#v, %v", r, err)
	}
}

// Only records that are bound to a key have the second version, which versions of this module
// that know nothing of keys refuse. All others stay as they were (C61).
func TestVersionOfARecord(t *testing.T) {
	for want, r := range map[string]*Record{
		`"v":1}`: {},
		`"v":2}`: {bound: &boundKey{"", "t"}},
	} {
		data, err := encodeRecord(r)
		if err != nil || !strings.HasSuffix(string(data), want) {
			t.Errorf("%s, %v; want %s", data, err, want)
		}
	}
}

// What is bound to nothing, as a login is at a provider without DPoP where that is optional, is
// stored as ever; and no record is written that nobody could read.
func TestBoundToNothing(t *testing.T) {
	plain := &Record{RefreshToken: "fake-secret"}
	want, err := encodeRecord(plain)
	if err != nil {
		t.Fatal(err)
	}
	r := plain.Clone()
	for _, before := range []string{"", "thumbprint"} {
		r.Bind("", before)
		r.Bind("", "")
		if got, err := encodeRecord(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("bound to %q and then to nothing: %s, %v", before, got, err)
		}
	}
	r.Bind("fake-private-key", "")
	if got, err := encodeRecord(r); err == nil {
		t.Errorf("without a thumbprint: %s", got)
	} else if strings.Contains(err.Error(), "fake") {
		t.Error(err)
	}
}

// The versions of this module that knew nothing of keys refuse a record that is bound to one, and
// say what to do (C61). The text is what the last of them said of these files; Token, Status,
// Logout and KeepFresh of it left them as they were and made no request.
func TestEarlierReaderOfABoundRecord(t *testing.T) {
	const said = "damaged, or sealed with another key: the record has format 2, written by a newer version of stayauth, and this one reads up to 1: update the program"
	for _, file := range []string{"full.json", "key_elsewhere.json"} {
		golden, err := os.ReadFile("../testdata/records/v2/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decodeUpTo(recordVersion, golden); r != nil || !errors.Is(err, ErrCorrupt) || err.Error() != said {
			t.Errorf("%s: %v, %v", file, r, err)
		}
	}
}

// A key takes little of what a keyring item has room for: on Windows 2560 bytes (C71).
func TestSizeOfAKey(t *testing.T) {
	r := fullRecord()
	without, err1 := encodeRecord(r)
	r.Bind(Secret(make([]byte, 138)), strings.Repeat("t", 43)) // PKCS #8 of a key on P-256, SHA-256
	with, err2 := encodeRecord(r)
	if more := len(with) - len(without); err1 != nil || err2 != nil || more > 260 {
		t.Errorf("a key takes %d bytes: %v, %v", more, err1, err2)
	}
}

func TestKeyNameIsForEver(t *testing.T) {
	if got, want := fullRecord().Key.Name(), "9313611a3981754171e78054ac551296ca78c493"; got != want {
		t.Errorf("Name() = %q, want %q", got, want)
	}
	seen := map[string]Key{}
	for _, k := range []Key{{}, {Issuer: "a"}, {ClientID: "a"}, {Account: "a"}, {Audience: "a"}, {Issuer: "ab"}, {Issuer: "a", ClientID: "b"}, {Issuer: "A"}} {
		if other, ok := seen[k.Name()]; ok {
			t.Errorf("%+v and %+v have the same name", k, other)
		}
		seen[k.Name()] = k
	}
}

func TestDecodeRecordErrors(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"empty":            {"", "not a JSON object"},
		"null":             {"null", "not a JSON object"},
		"array":            {"[]", "not a JSON object"},
		"cut":              {`{"v":1,"access_token":"fake-secret`, "not a JSON object"},
		"two objects":      {`{"v":1}{"v":1}`, "not a JSON object"},
		"no version":       {`{"access_token":"fake-secret"}`, "no version"},
		"version 0":        {`{"v":0}`, "no version"},
		"version a string": {`{"v":"1"}`, "no version"},
		"newer version":    {`{"v":3,"access_token":{"fake-secret":1}}`, "newer version of stayauth"},
		"token a number":   {`{"v":1,"access_token":123456}`, `"access_token"`},
		"bad base64":       {`{"v":1,"refresh_token":{"base64":"fake-secret!"}}`, `"refresh_token"`},
		"bad time":         {`{"v":1,"expiry":"fake-secret"}`, `"expiry"`},
		"negative":         {`{"v":1,"generation":-1}`, `"generation"`},
		"bad attempt":      {`{"v":1,"attempt":"fake-secret"}`, `"attempt"`},
		"bad proof":        {`{"v":2,"dpop":{"key":"fake-secret!","jkt":"a"}}`, `"dpop"`},
		"no key":           {`{"v":2,"refresh_token":"fake-secret"}`, "lost the key"},
		"no thumbprint":    {`{"v":2,"dpop":{"key":"ZmFrZS1zZWNyZXQ="}}`, `"dpop"`},
		"bad targets":      {`{"v":1,"targets":{"tokens":{"a":{"expiry":"fake-secret"}}}}`, `"targets"`},
		"bad extra":        {`{"v":1,"extra":["fake-secret"]}`, `"extra"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeRecord([]byte(tt.in))
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want ErrCorrupt that says %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "fake-secret") || strings.Contains(err.Error(), "123456")) {
				t.Errorf("the error quotes the record: %v", err)
			}
		})
	}
}

// Whatever a provider sends, the refresh token beside it must be saved.
func TestAnyRecordCanBeSaved(t *testing.T) {
	for name, r := range map[string]*Record{
		"zero":               {},
		"far future":         {Expiry: time.Unix(1<<60, 0), RefreshToken: "r"},
		"far past":           {Expiry: time.Unix(-1<<60, 0), RefreshToken: "r"},
		"bytes, not text":    {RefreshToken: "r\xff\x00", AccessToken: "\xfe", Scope: "\x80", Extra: map[string]Secret{"x": "\xff"}},
		"looks like base64":  {RefreshToken: `{"base64":"eA=="}`},
		"HTML":               {RefreshToken: "<&>\u2028"},
		"empty extra member": {Extra: map[string]Secret{"": ""}},
		"account in Latin-1": {Key: Key{Account: "J\xf6rg"}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := encodeRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeRecord(data)
			if err != nil {
				t.Fatalf("%v: %s", err, data)
			}
			if got.Key != r.Key || got.RefreshToken != r.RefreshToken || got.AccessToken != r.AccessToken || got.Scope != r.Scope || !reflect.DeepEqual(got.Extra, r.Extra) {
				t.Errorf("got %s", data)
			}
			if got.Expiry.IsZero() != r.Expiry.IsZero() || got.Expiry.Before(time.Now()) != r.Expiry.Before(time.Now()) {
				t.Errorf("expiry %v became %v", r.Expiry, got.Expiry)
			}
		})
	}
}

func TestUnknownMembersSurvive(t *testing.T) {
	in := `{"v":1,"access_token":"a","proof_key":{"kty":"EC","d":12345678901234567890.5},"Access_Token":"not ours"}`
	r, err := decodeRecord([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	c := r.Clone()
	c.AccessToken = "b"
	out, err := encodeRecord(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"proof_key":{"kty":"EC","d":12345678901234567890.5}`, `"Access_Token":"not ours"`, `"access_token":"b"`} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%s lacks %s", out, want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	r := fullRecord()
	c := r.Clone()
	if !reflect.DeepEqual(r, c) {
		t.Fatalf("%#v is a clone of %#v", c, r)
	}
	c.Bind("k", "t")
	c.Extra["instance_url"], c.Attempt.PID, c.Tombstone.Code, c.Scope = "x", 1, "x", "x"
	if !reflect.DeepEqual(r, fullRecord()) {
		t.Error("changing a clone changed the original")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	files, _ := filepath.Glob("../testdata/records/v*/*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"v":1,"refresh_token":{"base64":"/w=="},"expiry":"0000-01-01T00:00:00Z","extra":{"a":{"base64":""}},"V":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		// What can be read can be saved, and from then on nothing changes.
		once, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		// The stored form is the one that encoding/json gives a map of its members.
		var members map[string]json.RawMessage
		if err := json.Unmarshal(once, &members); err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		if canonical, err := json.Marshal(members); err != nil || !bytes.Equal(once, canonical) {
			t.Fatalf("%v\n%s\n%s", err, once, canonical)
		}
		r, err = decodeRecord(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		twice, err := encodeRecord(r)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	name, key, good := goldenSealed(f)
	f.Add(name, good)
	f.Add("", []byte(sealTag))
	f.Add(name, good[:len(good)-1])
	f.Fuzz(func(t *testing.T, as string, data []byte) {
		plain, err := unseal([]dataKey{key}, as, data)
		if err == nil && (as != name || !bytes.Equal(data, good)) {
			t.Fatalf("opened a forgery: %q", plain)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// The names of logins with a label are for ever too, and begin with that of the login
// without one. A key that has no label keeps its name.
func TestKeyNameWithLabel(t *testing.T) {
	k := Key{Issuer: "https://as.example", ClientID: "app", Account: "ann", Audience: "a"}
	work := k.WithLabel("work")
	if got, want := work.Name(), "3d164e9df2dca90f7136b264df48866cd2fedb22-92d96c2e89da04bf484388f6c9a57fea6f3907a6"; got != want || !strings.HasPrefix(got, k.Name()+"-") {
		t.Errorf("Name() = %q, want %q", got, want)
	}
	if account, label := work.Label(); account != "ann" || label != "work" {
		t.Errorf("Label() = %q, %q", account, label)
	}
	if account, label := k.Label(); account != "ann" || label != "" {
		t.Errorf("Label() = %q, %q", account, label)
	}
	other := k
	other.Account = "bob"
	if strings.HasPrefix(other.WithLabel("work").Name(), k.Name()) || k.WithLabel("home").Name() == work.Name() {
		t.Error("two logins have names that belong together")
	}
}
