"""The preview: a local page that shows what the cameras see and what is read from it, while somebody looks.

`view` is what is known of each camera, `picture` draws and encodes, `pages` answers. The page itself is `page.html`,
`page.js` and `page.css`; `login.html` comes before it where a token is wanted.
"""
