package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// googleUserFile writes a file as gcloud does, at the time of the test.
func googleUserFile(t *testing.T, path string, change map[string]any) {
	t.Helper()
	file := map[string]any{"account": "", "client_id": "1234.apps.googleusercontent.com", "client_secret": "d-SECRET-of-client",
		"quota_project_id": "example", "refresh_token": "1//refresh-1", "type": "authorized_user", "universe_domain": "googleapis.com"}
	for name, value := range change {
		file[name] = value
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The login in a file is used like any other: refreshed once for all starts of a program, and
// replaced when somebody logs in again, but not when the old file is put back.
func TestImportGoogleUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "application_default_credentials.json")
		googleUserFile(t, path, nil)
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		if err != nil {
			t.Fatal(err)
		}
		requests := 0
		google := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			requests++
			if err := req.ParseForm(); err != nil {
				return nil, err
			}
			if req.URL.String() != "https://oauth2.googleapis.com/token" || req.Form.Get("client_id") != "1234.apps.googleusercontent.com" || req.Form.Get("client_secret") != "d-SECRET-of-client" {
				t.Errorf("sent %v to %s", req.Form, req.URL)
			}
			return testkit.Respond(200, fmt.Sprintf(`{"access_token":"access of %s","expires_in":3599,"token_type":"Bearer"}`, req.Form.Get("refresh_token"))).RoundTrip(req)
		})
		start := func(want string) {
			t.Helper()
			endpoint, err := ImportGoogleUser(t.Context(), cache, path)
			if err != nil {
				t.Fatal(err)
			}
			endpoint.Base = google
			source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close(context.Background())
			if tok, err := source.Token(t.Context()); string(tok.AccessToken) != want {
				t.Errorf("got %q, %v", string(tok.AccessToken), err)
			}
		}
		for range 3 {
			start("access of 1//refresh-1")
		}
		if requests != 1 {
			t.Errorf("%d requests", requests)
		}
		time.Sleep(time.Hour)
		googleUserFile(t, path, map[string]any{"refresh_token": "1//refresh-2"})
		for range 2 {
			start("access of 1//refresh-2")
		}
		made := time.Now()
		time.Sleep(time.Minute)
		googleUserFile(t, path, nil)
		if err := os.Chtimes(path, time.Time{}, made.Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		start("access of 1//refresh-2")

		// A file from the future, because a clock was wrong, is not newer than all logins to come.
		googleUserFile(t, path, map[string]any{"refresh_token": "1//refresh-3"})
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(1000*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			start("access of 1//refresh-3")
			time.Sleep(time.Minute)
		}
		googleUserFile(t, path, map[string]any{"refresh_token": "1//refresh-4"})
		start("access of 1//refresh-4")
	})
}

// Any other file is refused, and nothing of it is shown.
func TestGoogleUserFilesThatAreWrong(t *testing.T) {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file.json")
	refused := func(name, says string) {
		t.Helper()
		_, err := ImportGoogleUser(t.Context(), cache, path)
		if !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("none", "no such file")
	for name, change := range map[string]map[string]any{
		"service_account":    {"type": "service_account"},
		"external_account":   {"type": "external_account"},
		"refresh_token":      {"refresh_token": ""},
		"client_id":          {"client_id": nil},
		"trusted.cloud.test": {"universe_domain": "trusted.cloud.test"},
	} {
		googleUserFile(t, path, change)
		refused(name, name)
	}
	if err := os.WriteFile(path, []byte(`{"client_secret":"d-SECRET-of-client`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("no JSON", "JSON")
	if err := os.WriteFile(path, []byte(`{"refresh_token":"SECRET"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("that of x/oauth2", "another program")
	path = t.TempDir()
	refused("a directory", "regular")
	for rec := range cache.List(t.Context()) {
		t.Errorf("imported %v", rec)
	}
}

// A program that uses the login that the user has made with gcloud.
func ExampleImportGoogleUser() {
	ctx := context.Background()
	cache, err := tokencache.New(new(tokencache.Memory), nil) // oskeyring.Open keeps it
	if err != nil {
		log.Fatal(err)
	}
	endpoint, err := ImportGoogleUser(ctx, cache, os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"))
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: endpoint})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: Google().Origins})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: rt}
	_, _ = client.Get("https://storage.googleapis.com/storage/v1/b?project=example")
}
