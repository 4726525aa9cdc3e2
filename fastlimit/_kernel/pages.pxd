"""Zeroed memory that costs nothing until it is touched: a table takes what its keys use, a page at a time."""

cdef extern from * nogil:
    """
    #include <sys/mman.h>

    static inline void *fl_map_pages(size_t size) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    #ifdef MAP_NORESERVE
        flags |= MAP_NORESERVE;
    #endif
        void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (pages == MAP_FAILED) return NULL;
    #ifdef MADV_NOHUGEPAGE
        /* A huge page would make a sparse table resident, and gains no speed. */
        madvise(pages, size, MADV_NOHUGEPAGE);
    #endif
        return pages;
    }
    static inline void fl_unmap_pages(void *pages, size_t size) { munmap(pages, size); }
    """
    void *map_pages "fl_map_pages"(size_t size) noexcept
    void unmap_pages "fl_unmap_pages"(void *pages, size_t size) noexcept
