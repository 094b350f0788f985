package external_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/external"
)

// A CI system gives a job a token, which is for the job alone.
func ExampleEnv() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "called with", r.Header.Get("Authorization"))
	}))
	defer api.Close()
	os.Setenv("API_TOKEN", "the-token-of-this-job")
	defer os.Unsetenv("API_TOKEN")

	source, err := transport.NewSource(external.Env("API_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close(context.Background())
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{api.URL}})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	// Output: called with Bearer the-token-of-this-job
}
