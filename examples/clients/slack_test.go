package clients

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/slack-go/slack"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// Slack rejects a token with a 200. The client puts a token of its own into the header of some
// requests, where it is replaced, and into the form of others, where it must be empty.
func TestSlack(t *testing.T) {
	for _, path := range []string{"chat.postMessage", "functions.completeSuccess", "chat.getPermalink"} {
		t.Run(path, func(t *testing.T) {
			testSlack(t, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, path) })
		})
	}
}

func testSlack(t *testing.T, reject func(*http.Request) bool) {
	api := http.NewServeMux()
	api.HandleFunc("POST /api/chat.postMessage", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("token") != "" {
			io.WriteString(w, `{"ok":false,"error":"invalid_auth"}`)
			return
		}
		fmt.Fprintf(w, `{"ok":true,"message":{"text":%q}}`, r.FormValue("text"))
	})
	api.HandleFunc("POST /api/functions.completeSuccess", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"ok":%v}`, strings.Contains(string(body), `"function_execution_id":"Fx1"`))
	})
	api.HandleFunc("GET /api/chat.getPermalink", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"ok":true,"permalink":%q}`, r.FormValue("channel"))
	})
	w := newWorld(t, asJSON(api), reject, transport.Config{
		ReplaceAuthorization: true, Rejected: provider.SlackRejects,
	})
	w.refuse = func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		io.WriteString(rw, `{"ok":false,"error":"token_expired"}`)
	}
	client := slack.New("", slack.OptionHTTPClient(w.client), slack.OptionAPIURL(apiURL+"/api/"))
	text := strings.Repeat("news ", 5000)
	w.keepsWorking(func(ctx context.Context) error {
		_, _, message, err := client.PostMessageWithResponseContext(ctx, "C1", slack.MsgOptionText(text, false))
		if err != nil || message.Text != text {
			return fmt.Errorf("%d characters of the message arrived: %w", len(message.Text), err)
		}
		if err := client.FunctionCompleteSuccessContext(ctx, "Fx1"); err != nil {
			return err
		}
		link, err := client.GetPermalinkContext(ctx, &slack.PermalinkParameters{Channel: "C1", Ts: "1"})
		if err != nil || link != "C1" {
			return fmt.Errorf("the link is %q: %w", link, err)
		}
		return nil
	})
}
