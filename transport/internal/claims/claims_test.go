package claims

import (
	"encoding/json"
	"strings"
	"testing"
)

// C102: what an API demands and what the program always says, such as its capability, are
// sent as one request.
func TestMerge(t *testing.T) {
	const capable = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`
	for _, tt := range []struct{ name, a, b, want string }{
		{"nothing", "", "", ""},
		{"one", "", capable, capable},
		{"the other", capable, "", capable},
		{"both", capable, `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`,
			`{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"xms_cc":{"values":["cp1"]}}}`},
		{"the same twice", capable, capable, capable},
		{"more values", capable, `{"access_token":{"xms_cc":{"values":["cp2","cp1"]}}}`,
			`{"access_token":{"xms_cc":{"values":["cp1","cp2"]}}}`},
		{"only what both accept", `{"id_token":{"acr":{"essential":true,"values":["gold","silver","bronze"]}}}`, `{"id_token":{"acr":{"values":["bronze","silver","lead"]}}}`,
			`{"id_token":{"acr":{"essential":true,"values":["silver","bronze"]}}}`},
		{"null is the usual way", `{"id_token":{"auth_time":null}}`, `{"id_token":{"auth_time":{"essential":true}}}`,
			`{"id_token":{"auth_time":{"essential":true}}}`},
		{"null after", `{"id_token":{"auth_time":{"essential":true}}}`, `{"id_token":{"auth_time":null}}`,
			`{"id_token":{"auth_time":{"essential":true}}}`},
		{"large numbers stay whole", `{"a":{"value":12345678901234567890}}`, "", `{"a":{"value":12345678901234567890}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Merge(tt.a, tt.b)
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
			if !Covers(got, tt.a) || !Covers(got, tt.b) {
				t.Error("it does not cover what it was made of")
			}
		})
	}
	for _, tt := range [][2]string{
		{capable, `{"access_token":{"nbf":null}}`},
		{`{"id_token":{"acr":{"values":["gold","bronze"]}}}`, `{"id_token":{"acr":{"values":["gold"]}}}`},
	} {
		if Covers(tt[0], tt[1]) {
			t.Errorf("%s covers %s, which it does not ask for", tt[0], tt[1])
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, a, b, says string }{
		{"values", `{"access_token":{"acrs":{"value":"c1-secret"}}}`, `{"access_token":{"acrs":{"value":"c2"}}}`, "acrs"},
		{"ways to log in", `{"id_token":{"acr":{"values":["c1-secret"]}}}`, `{"id_token":{"acr":{"values":["c2"]}}}`, "acr"},
		{"kinds", `{"access_token":{"acrs":{"value":"c1-secret"}}}`, `{"access_token":{"acrs":"c2"}}`, "acrs"},
		{"an array", `[]`, "", "JSON object"},
		{"null", "null", "", "JSON object"},
		{"no JSON", "", `{"a":`, "JSON object"},
		{"two objects", `{} {}`, "", "JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Merge(tt.a, tt.b)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(`{"access_token":{"xms_cc":{"values":["cp1"]}}}`, `{"access_token":{"nbf":{"essential":true}}}`)
	f.Add(`{"a":null}`, `{"a":[1]}`)
	f.Add(`{"acr":{"values":[1,1,2]}}`, `{"acr":{"values":[2,1]}}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := Merge(a, b)
		if err != nil || got == "" {
			return
		}
		var object map[string]json.RawMessage // not any: 9E1666 is JSON, and no float64
		if json.Unmarshal([]byte(got), &object) != nil {
			t.Fatalf("%q", got)
		}
		if again, err := Merge(got, b); err != nil || again != got {
			t.Errorf("%s and %s: %s, and then %s, %v", a, b, got, again, err)
		}
	})
}
