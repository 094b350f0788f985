package clients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-github/v74/github"

	"github.com/stayauth/stayauth/transport"
)

func TestGitHub(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) { testGitHub(t, atFirst(method)) })
	}
}

func testGitHub(t *testing.T, reject func(*http.Request) bool) {
	api := http.NewServeMux()
	api.HandleFunc("GET /user", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"login":"alice"}`) })
	api.HandleFunc("POST /repos/o/r/releases/1/assets", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"label":%q}`, hash(r.Body))
	})
	w := newWorld(t, api, reject, transport.Config{})
	client, err := github.NewClient(w.client).WithEnterpriseURLs(apiURL, apiURL)
	if err != nil {
		t.Fatal(err)
	}
	asset := filepath.Join(t.TempDir(), "asset.zip")
	if err := os.WriteFile(asset, large, 0o600); err != nil {
		t.Fatal(err)
	}
	w.keepsWorking(func(ctx context.Context) error {
		f, err := os.Open(asset)
		if err != nil {
			return err
		}
		defer f.Close()
		uploaded, _, err := client.Repositories.UploadReleaseAsset(ctx, "o", "r", 1, &github.UploadOptions{Name: "asset.zip"}, f)
		if err != nil || uploaded.GetLabel() != hashOfLarge {
			return fmt.Errorf("the file arrived as %s: %w", uploaded.GetLabel(), err)
		}
		user, _, err := client.Users.Get(ctx, "")
		if err != nil || user.GetLogin() != "alice" {
			return fmt.Errorf("the user is %q: %w", user.GetLogin(), err)
		}
		return nil
	})
}
