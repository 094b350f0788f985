package oskeyring

import (
	"context"
	"strings"
	"testing"
	"time"
)

// The real Credential Manager, or what Wine has in its place (testdata/wine).
func TestRealCredentialManager(t *testing.T) {
	if err := Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := &keyring{backend: goKeyring{}, guard: new(guard), service: "stayauth-test", timeout: time.Minute}
	free := func(context.Context) (func() error, error) { return func() error { return nil }, nil }
	set := func(next item) error {
		_, err := k.change(t.Context(), "u", optional, free, func(item) (item, error) { return next, nil })
		return err
	}
	defer set(item{})
	for _, size := range []int{0, 1, windowsLimit} {
		want := item{strings.Repeat("x", size), true}
		if err := set(want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got, err := k.get(t.Context(), "u", optional); err != nil || got != want {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	wantProblem(t, set(item{strings.Repeat("x", windowsLimit+1), true}), TooBig)
	if got, err := k.get(t.Context(), "u", optional); err != nil || len(got.value) != windowsLimit {
		t.Errorf("after a refusal: %d bytes, %v", len(got.value), err)
	}
	if err := set(item{}); err != nil {
		t.Fatal(err)
	}
	if got, err := k.get(t.Context(), "u", optional); err != nil || got.ok {
		t.Errorf("after removing it: %v", err)
	}
}
