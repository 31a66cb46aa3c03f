package console

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

const flashCookie = "postrider_said"

// flash is what an action says on the page that comes next, once.
type flash struct{ Said, Wrong string }

func setFlash(w http.ResponseWriter, f flash) {
	text, err := json.Marshal(flash{clip(f.Said, 500), clip(f.Wrong, 1500)}) // a cookie is small
	if err != nil {
		return // two texts can be encoded
	}
	http.SetCookie(w, &http.Cookie{Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString(text), Path: "/", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// takeFlash reads it, and makes sure that it is not read again.
func takeFlash(w http.ResponseWriter, r *http.Request) (f flash) {
	c, err := r.Cookie(flashCookie)
	if err != nil {
		return f
	}
	http.SetCookie(w, &http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return flash{} // somebody else's cookie
	}
	return f
}
