// Package claims works on requests for claims: the JSON objects of the parameter "claims"
// of OpenID Connect Core section 5.5, with which Microsoft Entra also says what an API
// demands of a token and what a client is capable of.
package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// MaxLen is the length in bytes of the largest demand that is kept with a login. Demands come
// from an API, and the store may have little room.
const MaxLen = 2 << 10

// Merge returns one request for everything that a and b ask for; "" asks for nothing. Objects
// are merged member by member, and arrays, which list acceptable values, are united. But of the
// ways to log in (acr, section 5.5.1.1) only those are acceptable that both list, in the order of
// a: otherwise the provider might be content with one that is too weak for either of them. Two
// different values in the same place are an error, which names the place and quotes neither.
func Merge(a, b string) (string, error) {
	all := map[string]any{}
	for _, request := range []string{a, b} {
		if request == "" {
			continue
		}
		members, err := parse(request)
		if err != nil {
			return "", err
		}
		if err := merge(all, members, "claims"); err != nil {
			return "", err
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	merged, err := json.Marshal(all)
	return string(merged), err
}

// Covers reports whether a asks for everything that b asks for.
func Covers(a, b string) bool {
	both, err := Merge(a, b)
	alone, _ := Merge(a, "")
	return err == nil && both == alone
}

func parse(request string) (members map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(request)))
	d.UseNumber()
	if d.Decode(&members) != nil || members == nil || d.More() {
		return nil, errors.New("claims are to be a JSON object")
	}
	return members, nil
}

// merge adds from to into.
func merge(into, from map[string]any, place string) error {
	for name, value := range from {
		there, ok := into[name]
		switch {
		case !ok || there == nil: // null asks for the claim in the usual way (section 5.5.1).
			into[name] = value
			continue
		case value == nil || reflect.DeepEqual(there, value):
			continue
		}
		at := fmt.Sprintf("%s.%.40q", place, name)
		switch there := there.(type) {
		case map[string]any:
			if value, ok := value.(map[string]any); ok {
				if err := merge(there, value, at); err != nil {
					return err
				}
				continue
			}
		case []any:
			value, ok := value.([]any)
			if ok && strings.HasSuffix(place, `."acr"`) {
				value = common(there, value)
				ok, there = len(value) > 0, nil
			}
			if ok {
				into[name] = unite(there, value)
				continue
			}
		}
		return errors.New("two different values are asked for at " + at)
	}
	return nil
}

func unite(a, b []any) []any {
	all := slices.Clone(a)
	for _, v := range b {
		if !contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

func common(a, b []any) []any {
	return slices.DeleteFunc(slices.Clone(a), func(v any) bool { return !contains(b, v) })
}

func contains(all []any, v any) bool {
	return slices.ContainsFunc(all, func(w any) bool { return reflect.DeepEqual(v, w) })
}
