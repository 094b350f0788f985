package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go"

	"github.com/stayauth/stayauth/transport"
)

// NewClient would send a token of its own in a header of GitLab's.
func TestGitLab(t *testing.T) {
	for _, path := range []string{"/user", "/issues", "/big.bin"} {
		t.Run(path, func(t *testing.T) {
			testGitLab(t, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, path) })
		})
	}
}

func testGitLab(t *testing.T, reject func(*http.Request) bool) {
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v4/user", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"username":"alice"}`) })
	api.HandleFunc("POST /api/v4/projects/1/issues", func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Title string }
		json.NewDecoder(r.Body).Decode(&asked)
		fmt.Fprintf(w, `{"id":1,"title":%q}`, asked.Title)
	})
	api.HandleFunc("PUT /api/v4/projects/1/packages/generic/p/1/big.bin", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"file_sha256":%q}`, hash(r.Body))
	})
	w := newWorld(t, api, reject, transport.Config{})
	client, err := gitlab.NewAuthSourceClient(gitlab.Unauthenticated{}, gitlab.WithHTTPClient(w.client), gitlab.WithBaseURL(apiURL))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "big.bin")
	if err := os.WriteFile(name, large, 0o600); err != nil {
		t.Fatal(err)
	}
	w.keepsWorking(func(ctx context.Context) error {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		issue, _, err := client.Issues.CreateIssue(1, &gitlab.CreateIssueOptions{Title: gitlab.Ptr("a title")}, gitlab.WithContext(ctx))
		if err != nil || issue.Title != "a title" {
			return fmt.Errorf("the issue is %v: %w", issue, err)
		}
		f, _, err := client.GenericPackages.PublishPackageFile(1, "p", "1", "big.bin", file,
			&gitlab.PublishPackageFileOptions{Select: gitlab.Ptr(gitlab.SelectPackageFile)}, gitlab.WithContext(ctx))
		if err != nil || f.FileSHA256 != hashOfLarge {
			return fmt.Errorf("the file arrived as %v: %w", f, err)
		}
		user, _, err := client.Users.CurrentUser(gitlab.WithContext(ctx))
		if err != nil || user.Username != "alice" {
			return fmt.Errorf("the user is %v: %w", user, err)
		}
		return nil
	})
}
