package grants_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google/externalaccount"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// workload returns the configuration of a Source for a file of type "external_account": workload
// identity federation, which needs no key. The official package obtains the tokens, because there
// are many ways in which a platform says who a workload is (a file, an address, a program, requests
// that are signed for AWS), and all of them are its business. The Source sees both steps, the
// exchange and the impersonation, as one.
//
// Such a file says which programs are run and which addresses are asked: use only one from a
// trusted source.
func workload(path string, client *http.Client, scopes ...string) (config transport.SourceConfig, err error) {
	var file struct {
		Type          string                           `json:"type"`
		Audience      string                           `json:"audience"`
		TokenType     string                           `json:"subject_token_type"`
		TokenURL      string                           `json:"token_url"`
		Impersonation string                           `json:"service_account_impersonation_url"`
		Source        externalaccount.CredentialSource `json:"credential_source"`
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err == nil && file.Type != "external_account" {
		err = fmt.Errorf("%s is of type %q", path, file.Type)
	}
	if err != nil {
		return config, err
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
	source := func() (oauth2.TokenSource, error) {
		return externalaccount.NewTokenSource(ctx, externalaccount.Config{
			Audience: file.Audience, SubjectTokenType: file.TokenType, TokenURL: file.TokenURL,
			ServiceAccountImpersonationURL: file.Impersonation, CredentialSource: &file.Source, Scopes: scopes,
		})
	}
	if _, err := source(); err != nil {
		return config, err
	}
	// Whose tokens these are: those of a service account, or of the workload itself.
	key := tokencache.Key{Issuer: file.TokenURL, ClientID: file.Audience, Account: file.Impersonation, Audience: strings.Join(scopes, " ")}
	return transport.SourceConfig{Refresher: endpoint.FromTokenSource(anew(source)), Key: key}, nil
}

// anew is a TokenSource that keeps no token: that is what a Source does.
type anew func() (oauth2.TokenSource, error)

func (a anew) Token() (*oauth2.Token, error) {
	source, err := a()
	if err != nil {
		return nil, err
	}
	return source.Token()
}

// A workload that has no key calls Google's APIs: as external_account files say, by the token of
// its platform. The function workload is to be copied.
func Example_workloadIdentity() {
	config, err := workload(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"), http.DefaultClient, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		fmt.Println("no such file")
		return
	}
	config.Cache, err = tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		return
	}
	source, err := transport.NewSource(config)
	if err != nil {
		return
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{"https://*.googleapis.com"}})
	if err != nil {
		return
	}
	_, _ = (&http.Client{Transport: rt}).Get("https://storage.googleapis.com/storage/v1/b?project=example")
}

// identityProvider is what Google knows the platform by.
const identityProvider = "//iam.googleapis.com/projects/1/locations/global/" +
	"workloadIdentityPools/pool/providers/k8s"

// A google is Google's security token service and its service that impersonates, with the answers
// in testdata/providers/google/federation.
type google struct {
	t         *testing.T
	exchanges int
	accounts  []string
	answer    map[string]string // instead of the usual ones
	subjects  []string
}

func (g *google) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	must(g.t, err)
	answer := "impersonation"
	switch account, found := strings.CutPrefix(req.URL.Path, "/v1/projects/-/serviceAccounts/"); {
	case req.URL.Host == "sts.googleapis.com":
		answer = "exchange"
		g.exchanges++
		form, err := url.ParseQuery(string(body))
		must(g.t, err)
		g.subjects = append(g.subjects, form.Get("subject_token"))
	case found && req.Header.Get("Authorization") == "Bearer ya29.d.federated":
		g.accounts = append(g.accounts, strings.TrimSuffix(account, ":generateAccessToken"))
	default:
		g.t.Errorf("sent to %s", req.URL)
	}
	if other, ok := g.answer[answer]; ok {
		answer = other
	}
	wire, err := os.ReadFile(filepath.Join(robotAnswers, "google", "federation", answer+".http"))
	must(g.t, err)
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(wire)), req)
}

// The token of a platform is exchanged, and the result is exchanged for that of a service account:
// two requests, one token in the cache, for each account that is impersonated its own; and the
// platform's token is read anew each time (C93).
func TestGoogleWorkloadIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(answeredAt))
		dir := t.TempDir()
		subject := filepath.Join(dir, "token")
		file := func(account string) string {
			path := filepath.Join(dir, account+".json")
			text, err := json.Marshal(map[string]any{
				"type": "external_account", "audience": identityProvider,
				"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
				"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
				"credential_source":                 map[string]any{"file": subject, "format": map[string]any{"type": "text"}},
			})
			must(t, err)
			must(t, os.WriteFile(path, text, 0o600))
			return path
		}
		must(t, os.WriteFile(subject, []byte("subject-1"), 0o600))
		g := &google{t: t}
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		must(t, err)
		source := func(account string) *transport.Source {
			config, err := workload(file(account), &http.Client{Transport: g}, "https://www.googleapis.com/auth/cloud-platform")
			must(t, err)
			config.Cache = cache
			s, err := transport.NewSource(config)
			must(t, err)
			t.Cleanup(func() { s.Close(context.Background()) })
			return s
		}
		for range 3 { // Each is a start of the program.
			tok, err := source("a").Token(t.Context())
			if err != nil || tok.AccessToken != "ya29.c.impersonated" || time.Until(tok.Expiry).Round(time.Minute) != time.Hour {
				t.Fatalf("until %v, %v", tok.Expiry, err)
			}
		}
		if _, err := source("b").Token(t.Context()); err != nil {
			t.Error(err)
		}
		if g.exchanges != 2 || strings.Join(g.accounts, " ") != "a b" {
			t.Errorf("%d exchanges, impersonated %v", g.exchanges, g.accounts)
		}
		must(t, os.WriteFile(subject, []byte("subject-2\n"), 0o600))
		for answer, instead := range map[string]string{"exchange": "refused", "impersonation": "denied"} {
			time.Sleep(2 * time.Hour)
			g.answer = map[string]string{answer: instead}
			_, err := source("a").Token(t.Context())
			if !errors.Is(err, transport.ErrUnavailable) || strings.Contains(err.Error(), "subject-") || strings.Contains(err.Error(), "ya29") {
				t.Errorf("%s: %v", instead, err)
			}
		}
		if last := g.subjects[len(g.subjects)-1]; last != "subject-2" {
			t.Errorf("sent %s", last)
		}
	})
}
