package main

import (
	"bytes"
	"strings"
	"testing"
)

// The demonstration does what it says, and shows nothing that it must not.
func TestDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, &out)
	}
	t.Logf("%s", &out)
	if n := strings.Count(out.String(), " 0 failed; "); n != 4 {
		t.Errorf("%d times nothing has failed, want 4", n)
	}
	for _, secret := range []string{"eyJ", "PRIVATE", "at-"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the output holds %q", secret)
		}
	}
}

func TestFlags(t *testing.T) {
	known := []string{"-issuer", "https://login.example.com", "-client-id", "robot", "-api", "https://api.example.com/me"}
	for _, tt := range []struct {
		name string
		args []string
		want string // in the error
	}{
		{"the demonstration", nil, ""},
		{"a key", append(known, "-key-file", "key.pem", "-kid", "k1", "-as", "ann,bob"), ""},
		{"a token", append(known, "-token-file", "token"), ""},
		{"both", append(known, "-token-file", "token", "-key-file", "key.pem"), "-key-file or -token-file"},
		{"neither", known, "-key-file or -token-file"},
		{"no issuer", known[2:], "-issuer is missing"},
		{"no client", append(known[:2:2], known[4:]...), "-client-id"},
		{"not a flag", append(known, "demo"), `"demo"`},
		{"users without a signature", append(known, "-token-file", "token", "-as", "ann"), "-subject-tokens"},
		{"tokens that are not there", append(known, "-key-file", "key.pem", "-subject-tokens", "/nowhere"), "/nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.args)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
