"""Language work by a Gemini model, window by window.

``windows`` divides the pages, ``sources`` and ``prompt`` make a request of them, ``calls`` asks (``client`` is the
connection, ``errors`` says what a failure means, ``pace`` keeps the rate limit), ``answer`` checks what comes back, and
``processor`` holds them together.

Imported only for tasks that name it: google-genai takes a second to import.
"""
