package grants

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// Callers come with new tokens for ever, and what is kept for them has a bound.
func TestCallersAreForgotten(t *testing.T) {
	store := new(callers)
	var last tokencache.Version
	for i := range maxCallers + 100 {
		v, err := store.Save(t.Context(), fmt.Sprint("caller", i), []byte("a"), "")
		if err != nil {
			t.Fatal(err)
		}
		last = v
	}
	if _, err := store.Save(t.Context(), fmt.Sprint("caller", maxCallers+99), []byte("b"), last); err != nil {
		t.Error(err)
	}
	var names []string
	for name, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if len(names) != maxCallers || slices.Contains(names, "caller99") || !slices.Contains(names, "caller100") {
		t.Errorf("%d are kept", len(names))
	}
}
