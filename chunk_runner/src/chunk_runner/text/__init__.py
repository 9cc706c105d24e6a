"""From the lines of a page to sentences.

The order of the modules is the order of the work: ``repair`` heals characters and hyphens, ``layout`` finds the
paragraphs of one page, ``page`` segments it, ``borders`` joins what a page border cuts. Nothing here looks at more
than one page, but for ``borders``, which looks at exactly two: this is why the result does not depend on how the
document was cut into chunks.
"""
