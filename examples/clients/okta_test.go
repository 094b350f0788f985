package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/okta/okta-sdk-golang/v5/okta"

	"github.com/stayauth/stayauth/transport"
)

// The SDK has no mode without a token of its own, and sets that in every request.
func TestOkta(t *testing.T) {
	api := http.NewServeMux()
	api.HandleFunc("POST /api/v1/groups", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	w := newWorld(t, asJSON(api), atFirst("POST"), transport.Config{
		ReplaceAuthorization: true,
	})
	cfg, err := okta.NewConfiguration(okta.WithOrgUrl(apiURL), okta.WithAuthorizationMode("Bearer"), okta.WithToken("replaced"),
		okta.WithHttpClientPtr(w.client), okta.WithCache(false))
	if err != nil {
		t.Fatal(err)
	}
	client := okta.NewAPIClient(cfg)
	w.keepsWorking(func(ctx context.Context) error {
		var profile okta.GroupProfile
		const name = "everybody"
		if err := json.Unmarshal([]byte(`{"name":"`+name+`"}`), &profile); err != nil {
			return err
		}
		group, _, err := client.GroupAPI.CreateGroup(ctx).Group(okta.Group{Profile: &profile}).Execute()
		if err != nil {
			return err
		}
		if got, err := json.Marshal(group.Profile); err != nil || string(got) != `{"name":"`+name+`"}` {
			return fmt.Errorf("the group is %s: %v", got, err)
		}
		return nil
	})
}
