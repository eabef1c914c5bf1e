//! A file that a helper process was given.

use super::image::Image;

/// A mapped file, which the libraries open at the first request that needs them.
pub(crate) struct OpenFile<'i> {
    image: &'i Image,
    file: Option<netcdf::FileMem<'i>>,
}

impl<'i> OpenFile<'i> {
    pub(super) fn new(image: &'i Image) -> OpenFile<'i> {
        OpenFile { image, file: None }
    }

    /// Returns the bytes of the file.
    pub(crate) fn image(&self) -> &'i Image {
        self.image
    }

    /// Returns the file as opened by the netCDF library.
    ///
    /// # Errors
    /// Returns an error if the file is not a NetCDF file, or if it refers to other files.
    pub(crate) fn file(&mut self) -> netcdf::Result<&netcdf::File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.image.netcdf()?,
        };
        Ok(self.file.insert(file))
    }
}
